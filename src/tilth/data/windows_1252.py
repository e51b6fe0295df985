"""Whether bytes that are not UTF-8 read as Windows-1252, of which Latin-1's letters are a part.

    tally(raw) -> Tally                 its bytes beyond ASCII, and which of them make sense so
    tally(raw).is_windows_1252

What a byte would be in Windows-1252 says little by itself; that accents stand alone or in pairs among plain letters,
and never as half of a longer run, tells it from Cyrillic, Greek and the encodings of East Asia. Windows-1250 (Polish)
has letters where it has signs, which stand within no word; Windows-1254 (Turkish) differs in six letters alone, which
are Icelandic ones here, and Icelandic is not written without á, í and ú.
"""

from __future__ import annotations

import re
from typing import NamedTuple

NEARLY_ALL = 0.95
"""Of the bytes: text of any length has a misprint."""

# What `surrogateescape` makes of a byte is U+DC00 more. Letters from C0 on but for the signs of product and quotient,
# and the signs that text has: €, …, Œ, œ, curly quotes, bullet, dashes, ™, and A0 to BF (spaces, «», currencies, §).
# The letters with carons are left out: at their places other encodings of the time have the commonest vowels.
_RUN = re.compile("[\udc80-\udcff]+")
_SENSIBLE = re.compile(
    "[\udc80\udc84\udc85\udc8c\udc91-\udc97\udc99\udc9c\udca0-\udcd6\udcd8-\udcf6\udcf8-\udcff]{1,2}"
)
# Not the soft hyphen, nor the dot of Catalan (l·l).
_SIGN_IN_WORD = re.compile("(?<=[A-Za-z\udcc0-\udcff])[\udca1-\udcac\udcae-\udcb6\udcb8-\udcbf](?=[a-z\udce0-\udcff])")
_ICELANDIC = re.compile("[\udcd0\udcdd\udcde\udcf0\udcfd\udcfe]")  # Ð Ý Þ ð ý þ; in Windows-1254 Ğ İ Ş ğ ı ş
_ACUTE = re.compile("[\udcc1\udcc9\udccd\udcd3\udcda\udcc6\udce1\udce9\udced\udcf3\udcfa\udce6]")  # ÁÉÍÓÚÆ, áéíóúæ
_FEW_ACUTE = 4  # Icelandic letters to one of these


class Tally(NamedTuple):
    """Bytes beyond ASCII.

    Attributes:
        bad: those that are no UTF-8.
        sensible: those of them that would make sense in Windows-1252.
        others: those that UTF-8 takes for characters, but for the first of each: recoding would spoil them.
    """

    bad: int
    sensible: int
    others: int

    @property
    def is_windows_1252(self) -> bool:
        """Whether nearly all of them make sense as such."""
        return self.sensible >= NEARLY_ALL * max(self.bad + self.others, 1)


def tally(raw: bytes) -> Tally:
    """The bytes beyond ASCII of a text."""
    text = raw.decode("utf-8", "surrogateescape")
    runs = _RUN.findall(text)
    sensible = sum(len(run) for run in runs if _SENSIBLE.fullmatch(run)) - len(_SIGN_IN_WORD.findall(text))
    if (turkish := len(_ICELANDIC.findall(text))) > _FEW_ACUTE * len(_ACUTE.findall(text)):
        sensible -= turkish
    return Tally(sum(map(len, runs)), max(sensible, 0), len(raw) - len(text))
