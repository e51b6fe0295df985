"""Bytes that are not UTF-8: text in Windows-1252 is told from other encodings, and from chance."""

from __future__ import annotations

import io
import random
import re
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tilth.core.config import parse
from tilth.data.document import Outcome, Rows
from tilth.data.sources import SourceConfig, list_inputs
from tilth.data.sources.files import read_rows
from tilth.data.sources.undecoded import Met, Undecoded, note, note_of_pages, said_of
from tilth.data.sources.web.warc import make_record

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


def read_all(folder: Path, **source: Any) -> tuple[Met, list[Outcome | Rows]]:
    config = parse(SourceConfig, source)
    found, outcomes = Met(), list[Outcome | Rows]()
    for item in list_inputs(config, folder, folder):
        outcomes += read_rows(item, config, met=found)
    return found, outcomes


def read(folder: Path, document: str = "file") -> Undecoded:
    found, outcomes = read_all(folder, path="a.txt", document=document)
    assert outcomes
    return found.files["a.txt"]


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
    found = read(tmp_path, document)
    assert found.count and not found.is_windows_1252 and not found.is_no_text
    said = note("texts", [said_of({"a.txt": found, "b.txt": met(FRENCH.encode("cp1252"))})]) or ""
    first, second = re.findall(r"iconv -f (\S+) -t UTF-8 FILE", said)
    assert f"a.txt looks like {first} without a byte order mark" in said and "U+FFFD, in" not in said
    assert (tmp_path / "a.txt").read_bytes().decode(first) == whole, said
    assert FRENCH.encode("cp1252").decode(second) == FRENCH


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_other_text_of_two_bytes_a_letter_is_not_taken_for_windows_1252(encoding: str) -> None:
    found = met((GREEK * 20).encode(encoding))
    assert (
        found.sensible == found.count > 0 and found.called is None and found.is_no_text
    )  # it is not known where it begins
    numbers = struct.pack("<500i", *range(0, 50_000, 100))  # three NULs of four bytes
    assert met(numbers).called is None


ARABIC = "أين ولدت؟ في المستشفى، بالقرب من البحر، وفي مقهى صغير. "
HINDI = "आप कहाँ पैदा हुए थे? समुद्र के पास, एक अस्पताल में और एक छोटे कैफे में। "
THAI = "คุณเกิดที่ไหน ที่โรงพยาบาลใกล้ทะเล และในร้านกาแฟเล็กๆ "


@pytest.mark.parametrize("document", ["file", "paragraph", "line"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [RUSSIAN, ARABIC, HINDI, THAI, GREEK, "plain English, and no accents. "])
def test_utf_16_of_other_alphabets_is_told_though_each_byte_may_be_utf_8(
    tmp_path: Path, document: str, encoding: str, text: str
) -> None:
    whole = f"{text}\n\n" * 20
    (tmp_path / "a.txt").write_bytes(whole.encode(encoding))
    found = read(tmp_path, document)
    said = note("texts", [said_of({"a.txt": found})]) or ""
    (name,) = re.findall(r"iconv -f (\S+) -t UTF-8 FILE", said)
    assert (tmp_path / "a.txt").read_bytes().decode(name) == whole
    if not found.count:
        line = f"`iconv -f {name} -t UTF-8 FILE > NEW` gives the text"
        assert said == f"texts: 1 file is not UTF-8: a.txt looks like {name} without a byte order mark; {line}"


@pytest.mark.parametrize(
    "raw",
    [
        "0\n1\n" * 99,
        "a\tb\t" * 99,
        "a\0b\0\0" * 99,
        "name\0\0\0\0\0\0\0" * 99,
        "x\0\0\0" * 99,
        "\0" * 99,
        "\x04\x05" * 99,
        RUSSIAN * 9,
        "where are\0the names\0of files?\0" * 9,
    ],
)
def test_no_text_of_utf_8_is_taken_for_utf_16(tmp_path: Path, raw: str) -> None:
    (tmp_path / "a.txt").write_text(raw, "utf-8")
    found, _ = read_all(tmp_path, path="a.txt")
    assert not found.files


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_each_entry_of_an_archive_is_looked_at_by_itself(tmp_path: Path, kind: str) -> None:
    entries = {
        "1mark.txt": FRENCH.encode("utf-16"),
        "2latin.txt": (FRENCH * 9).encode("cp1252"),
        "3little.txt": (FRENCH * 9).encode("utf-16-le"),
        "4big.txt": (RUSSIAN * 9).encode("utf-16-be"),
        "5utf.txt": FRENCH.encode(),
    }
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name, raw in entries.items():
                archive.writestr(name, raw)
    else:
        with tarfile.open(tmp_path / "a.tar", "w") as packed:
            for name, raw in entries.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(raw)
                packed.addfile(entry, io.BytesIO(raw))
    found, _ = read_all(tmp_path, path=f"a.{kind}")
    called = {name: one.called for name, one in found.files.items()}
    assert called == {
        f"a.{kind}!2latin.txt": "Windows-1252 (Latin-1)",
        f"a.{kind}!3little.txt": "UTF-16LE",
        f"a.{kind}!4big.txt": "UTF-16BE",
    }
    said = note("texts", [found.plain()]) or ""
    assert f"a.{kind}!2latin.txt looks like Windows-1252 (Latin-1), a.{kind}!3little.txt looks like UTF-16LE" in said
    assert "`iconv -f UTF-16BE -t UTF-8 FILE > NEW` (unpack first what is packed) keeps" in said


PAGE = "<html><head><title>A</title></head><body><p>{}</p></body></html>"


@pytest.mark.slow
def test_pages_in_another_encoding_are_told_by_name(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    (tmp_path / "pages").mkdir()
    for name, text, encoding in (("a", RUSSIAN, "cp1251"), ("b", RUSSIAN, "utf-8"), ("c", FRENCH, "cp1252")):
        (tmp_path / "pages" / f"{name}.html").write_bytes(PAGE.format(text * 5).encode(encoding))
    (tmp_path / "pages" / "d.html").write_bytes(PAGE.format(RUSSIAN * 5).encode() + b"<script>\xff</script>")
    whole = PAGE.format(RUSSIAN * 5).encode()
    (tmp_path / "pages" / "e.html").write_bytes(whole.replace("синего".encode(), b"\xff", 1))
    found, outcomes = read_all(tmp_path, path="pages")
    texts = [one.document.text for one in outcomes if isinstance(one, Outcome) and one.document]
    lost = sum(text.count("\ufffd") for text in texts)
    assert not found.files and lost == 5 * sum(map(str.isalpha, RUSSIAN)) + 1
    said = note_of_pages("web", [found.plain()])
    assert said == (
        f"web: {lost} characters of 2 pages became U+FFFD: pages/a.html is in another encoding than it states, or "
        "UTF-8 where none is stated (a tenth of the text is lost, or more); `invalid_utf8: drop` leaves such "
        "documents out"
    )
    found, _ = read_all(tmp_path, path="pages/e.html")
    assert note_of_pages("web", [found.plain()]) == (
        "web: 1 character of 1 page became U+FFFD, in pages/e.html; `invalid_utf8: drop` leaves such documents out"
    )


@pytest.mark.slow
def test_pages_of_a_warc_are_told_by_their_addresses(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    with (tmp_path / "a.warc.gz").open("wb") as file:
        for path, kind, text, encoding in (
            ("p", "text/html", PAGE.format(RUSSIAN * 5), "koi8-r"),
            ("t", "text/plain", RUSSIAN * 5, "cp1251"),
            ("u", "text/plain", RUSSIAN * 5, "utf-8"),
        ):
            date = "2026-01-31T12:00:00Z"
            file.write(make_record("resource", f"https://a.b/{path}", date, text.encode(encoding), kind)[1])
    found, _ = read_all(tmp_path, path="a.warc.gz")
    letters = 5 * sum(map(str.isalpha, RUSSIAN))
    pages = {"pages": 2, "characters": 2 * letters, "first": ["a.warc.gz!https://a.b/p", "a.warc.gz!https://a.b/t"]}
    assert found.plain()["pages"] == {**pages, "other": pages["first"]} and not found.files
    said = note_of_pages("web", [found.plain()] * 3) or ""
    assert (
        f"{6 * letters:,} characters of 6 pages became U+FFFD: a.warc.gz!https://a.b/p, a.warc.gz!https://a.b/t" in said
    )
    assert "are in another encoding than they state" in said and note_of_pages("web", [Met().plain()]) is None


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_file_with_its_mark_is_in_no_other_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes((FRENCH * 3).encode(encoding) + b"\xe9")  # cut off within a letter
    found = read(tmp_path)
    said = note("texts", [said_of({"a.txt": found})]) or ""
    assert found.count == 1 and "became U+FFFD, in a.txt" in said and "iconv" not in said


@pytest.mark.parametrize("document", ["file", "paragraph", "line"])
def test_a_file_s_bytes_are_counted_however_it_is_cut(tmp_path: Path, document: str) -> None:
    (tmp_path / "a.txt").write_bytes("".join(f"{n} {FRENCH}\n\n" for n in range(40)).encode("cp1252"))
    found = read(tmp_path, document)
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
