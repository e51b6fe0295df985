"""Bytes that are not UTF-8: text in Windows-1252 is told from other encodings, and from chance."""

from __future__ import annotations

import random
import re
import struct
from pathlib import Path

import pytest

from tilth.core.config import parse
from tilth.data.sources import SourceConfig, list_inputs
from tilth.data.sources.files import read_rows
from tilth.data.sources.undecoded import Undecoded, note, said_of

FRENCH = "Où êtes-vous né ? À l’hôpital, près d’un café naïf — « déjà vu » — pour 20 €, œuvre à Évry. "
GERMAN = "Füße, Größe und Äpfel: „Übermäßig“ süß, sagt die Köchin für 3 € im Café in der Straße. "
SPANISH = "¿Qué año? ¡Mañana! El niño comió piña y jamón en la cigüeña del corazón. "
RUSSIAN = "Где вы родились? В больнице, у самого синего моря, и в наивном кафе. "
GREEK = "Πού γεννηθήκατε; Στο νοσοκομείο, κοντά στη θάλασσα και σε ένα καφενείο. "
JAPANESE = "どこで生まれましたか。病院のカフェのそば、海の近くです。 "
CHINESE = "你在哪里出生的？在海边医院的咖啡馆旁边。 "


def met(raw: bytes) -> Undecoded:
    found = Undecoded()
    found.take(raw)
    return found


@pytest.mark.parametrize("text", [FRENCH, GERMAN, SPANISH])
def test_text_in_windows_1252_is_known(text: str) -> None:
    raw = (text * 20).encode("cp1252")
    found = met(raw)
    assert found.count == sum(byte > 127 for byte in raw) and found.is_windows_1252
    latin = met((SPANISH * 5).encode("latin-1"))
    assert latin.is_windows_1252 and latin.others == 0


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (RUSSIAN, "koi8-r"),
        (RUSSIAN, "cp1251"),
        (GREEK, "cp1253"),
        (JAPANESE, "shift-jis"),
        (JAPANESE, "euc-jp"),
        (CHINESE, "gbk"),
        ("你在哪裡出生的？在海邊醫院的咖啡館旁邊。", "big5"),
        (FRENCH.replace("œ", "oe"), "mac-roman"),
        (GERMAN, "mac-roman"),
        ("déjà naïve café garçon ", "cp437"),
    ],
)
def test_text_in_another_encoding_is_not_taken_for_it(text: str, encoding: str) -> None:
    found = met((text * 20).encode(encoding))
    assert found.count and not found.is_windows_1252


def test_neither_chance_nor_a_mixture_is_taken_for_it() -> None:
    assert not met(random.Random(0).randbytes(10_000)).is_windows_1252
    mixed = met((GREEK.encode() + FRENCH.encode("cp1252")) * 5)  # which recoding would spoil
    assert mixed.sensible and not mixed.is_windows_1252


@pytest.mark.parametrize("document", ["file", "paragraph", "line"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [FRENCH, GERMAN, SPANISH])
@pytest.mark.parametrize("begins", ["First.", "“Quoted”", "— a dash", "…", "Где\nвы", "\n", "\r\n—\r\n"])
def test_utf_16_without_its_mark_is_given_back_by_the_line_that_is_advised(
    tmp_path: Path, document: str, encoding: str, begins: str, text: str
) -> None:
    whole = f"{begins}\n\n" + f"{text}\n\n" * 20
    (tmp_path / "a.txt").write_bytes(whole.encode(encoding))
    config = parse(SourceConfig, {"path": "a.txt", "document": document})
    (item,) = list_inputs(config, tmp_path, tmp_path)
    found = Undecoded()
    assert list(read_rows(item, config, undecoded=found))
    assert found.count and not found.is_windows_1252 and not found.is_no_text
    said = note("texts", [said_of({"a.txt": found, "b.txt": met(FRENCH.encode("cp1252"))})]) or ""
    first, second = re.findall(r"iconv -f (\S+) -t UTF-8 FILE", said)
    assert f"a.txt looks like {first} without a byte order mark" in said and "U+FFFD, in" not in said
    assert (tmp_path / "a.txt").read_bytes().decode(first) == whole, said
    assert FRENCH.encode("cp1252").decode(second) == FRENCH


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_other_text_of_two_bytes_a_letter_is_not_taken_for_windows_1252(encoding: str) -> None:
    found = met((GREEK * 20).encode(encoding))
    assert found.sensible == found.count > 0 and found.called is None and found.is_no_text
    numbers = struct.pack("<500i", *range(0, 50_000, 100))  # three NULs of four bytes
    assert met(numbers).called is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_file_with_its_mark_is_in_no_other_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes((FRENCH * 3).encode(encoding) + b"\xe9")  # cut off within a letter
    config = parse(SourceConfig, {"path": "a.txt"})
    (item,) = list_inputs(config, tmp_path, tmp_path)
    found = Undecoded()
    assert list(read_rows(item, config, undecoded=found))
    said = note("texts", [said_of({"a.txt": found})]) or ""
    assert found.count == 1 and "became U+FFFD, in a.txt" in said and "iconv" not in said


@pytest.mark.parametrize("document", ["file", "paragraph", "line"])
def test_a_file_s_bytes_are_counted_however_it_is_cut(tmp_path: Path, document: str) -> None:
    (tmp_path / "a.txt").write_bytes("".join(f"{n} {FRENCH}\n\n" for n in range(40)).encode("cp1252"))
    config = parse(SourceConfig, {"path": "a.txt", "document": document})
    ((item, *_),) = [list(list_inputs(config, tmp_path, tmp_path))]
    found = Undecoded()
    assert list(read_rows(item, config, undecoded=found))
    assert found.count == 40 * sum(byte > 127 for byte in FRENCH.encode("cp1252")) and found.is_windows_1252


def test_the_sentence_is_bounded_and_names_files_that_can_be_recoded_first() -> None:
    latin, other = met(FRENCH.encode("cp1252")), met(b"\x81\xff\xff\xff")
    kept = [said_of({f"{n}{name}": one}) for n in range(9) for name, one in (("other", other), ("latin", latin))]
    said = note("texts", kept) or ""
    assert f"{9 * (latin.count + 4):,} bytes of 18 files are not UTF-8" in said
    assert "0latin, 1latin, 2latin look like Windows-1252" in said and "(and 15 more)" in said
    assert "other" not in said.partition("keeps these characters")[0] and "0other, 1other, 2other do not look" in said
    alone = note("texts", [said_of({"a": met(b"x" * 40 + b"\xff\xff\xff")})]) or ""
    assert "3 bytes of 1 file are not UTF-8, and became U+FFFD, in a; `invalid_utf8: drop`" in alone
    assert "iconv" not in alone and note("texts", [said_of({})]) is None
