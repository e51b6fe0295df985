"""Figures as people say them, wherever tilth speaks.

duration(seconds) -> "2 min 42 s"
plural(2000, "document") -> "2,000 documents"
size(12_340_000) -> "12.3 MB"; bytes_of("12.3MB"), back
some(["a", "b"], 9) -> "a, b and 7 more"
left_out("list/unknown_suffix", ["a.srt"], 1): the same, and how text in such files is read
pattern_of_text("d/a.srt") -> '{path: "d/*.srt", format: text}'
against_forecast(was, said, "678 MB") -> "23% above the forecast of 678 MB"
"""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from tilth.core.no_text import suffix_of, text_of_it


def duration(seconds: float) -> str:
    """`41.2 s`, `2 min 42 s`, `3 h 05 min`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def against_forecast(was: float, said: float, forecast: str) -> str:
    """How far what was lies from what had been said: what was is above or below, never the forecast.

    Args:
        was, said: both above 0, in one unit.
        forecast: `said` with its unit.
    """
    if was >= 3 * said:
        return f"{was / said:.1f} times the forecast of {forecast}"
    off = round(100 * (was / said - 1))
    return f"{abs(off)}% {'above' if off > 0 else 'below'} the forecast of {forecast}" if off else "as was forecast"


def plural(number: int, noun: str) -> str:
    """1 document, 2,000 documents."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def size(number: float) -> str:
    """Bytes: 512 B, 12.3 MB, 4.56 GB (powers of 1000)."""
    return scaled(number, ("B", "kB", "MB", "GB", "TB", "PB"))


def scaled(number: float, units: Sequence[str]) -> str:
    """Three digits and one of the units, each of which is 1000 of the one before."""
    power = 0
    while number >= 999.5 and power < len(units) - 1:  # what would be written as 1000
        number, power = number / 1000, power + 1
    digits = 0 if power == 0 or number >= 100 else 1 if number >= 10 else 2
    return f"{number:.{digits}f} {units[power]}"


def bytes_of(text: str) -> int | None:
    """What `24GiB`, `1.5 MB`, `24G` or `2000` say in bytes; None where it is no amount."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if found is None or (found[3] and not found[2]):
        return None
    power = " KMGT".index(found[2].upper() or " ")
    size = float(found[1]) * (1024 if found[3] else 1000) ** power
    return int(size) if math.isfinite(size) else None


def some(names: Sequence[str], number: int) -> str:
    """The first names of so many, and how many more there are."""
    more = f" and {number - len(names):,} more" if number > len(names) else ""
    return f"{', '.join(names)}{more}"


def left_out(rule: str, names: Sequence[str], number: int) -> str:
    """The first files that a rule left out, and what to do where they are text after all, or hold some."""
    if rule not in ("list/unknown_suffix", "read/unknown_suffix"):  # the second in archives
        return some(names, number)
    made = {suffix_of(name): remedy for name in names if (remedy := text_of_it(name))}
    how = [f"of {suffix}: {remedy}" for suffix, remedy in made.items()]
    other = next((name for name in names if text_of_it(name) is None), None)
    if other is not None or not names:
        how.append(f"text is read from such by a pattern: {pattern_of_text(other)}")
    return "; ".join([some(names, number), *how])


_PACKED = r"\.(?:gz|zst|bz2|xz)"
_IN_ARCHIVE = re.compile(rf"(.+?\.(?:zip|tar(?:{_PACKED})?|tgz|tzst|tbz2|txz))!.+", re.IGNORECASE | re.DOTALL)
_OF_ALL = (
    " (of the archive all files of an unknown suffix are read as text then, images too, and of the others only those "
    "such as .txt: where it holds more, unpack it, and name the texts by a pattern)"
)


def pattern_of_text(name: str | None) -> str:
    """The source that reads a file of an unknown suffix, and those beside it of the same, as text; some such source
    where no file is given. Of one without a suffix, or with none but that of its packing (`dump.gz`), it is the file;
    of one in an archive the archive, with what that means: no `path` chooses among files in one.
    """
    if name is None:
        return '{path: "d/*.srt", format: text}'
    path = PurePosixPath(name)
    within, more = _IN_ARCHIVE.fullmatch(name), ""
    if within:
        pattern, more = within[1], _OF_ALL
    elif suffix := _own_suffix(path):
        pattern = str(PurePosixPath(glob.escape(str(path.parent)), f"*{glob.escape(suffix)}"))
    else:
        pattern = name
    from tilth.core.yaml_texts import in_brackets  # yaml, which no `--help` should wait for

    quoted = in_brackets(pattern) if '"' in pattern or "\\" in pattern or not pattern.isprintable() else f'"{pattern}"'
    return f"{{path: {quoted}, format: text}}{more}"


def _own_suffix(path: PurePosixPath) -> str:
    """`.srt` of `a.srt`, `.srt.gz` of `a.srt.gz`; nothing of `a.gz`, for that others there have as well."""
    packed = path.suffix if re.fullmatch(_PACKED, path.suffix, re.IGNORECASE) else ""
    own = PurePosixPath(path.name.removesuffix(packed)).suffix
    return f"{own}{packed}" if own else ""
