"""Text files: decoding, packing, cutting, and what is said of each."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import tokenize
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import Outcome, make_doc_id
from tilth.data.sources import SourceConfig, list_inputs, read_input, streams
from tilth.data.sources.unusable import Unusable


def read(path: Path, *, among_many: bool = False, unusable: Unusable | None = None, **data: Any) -> list[Outcome]:
    config = parse(SourceConfig, {"path": path.name, **data})
    listing = list_inputs(config, path.parent, path.parent)
    return [o for item in listing for o in read_input(item, config, among_many=among_many, unusable=unusable)]


def read_bytes(tmp_path: Path, raw: bytes, name: str = "a.txt", **data: Any) -> list[Outcome]:
    path = tmp_path / name
    path.write_bytes(raw)
    return read(path, **data)


def texts(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.document.locator: o.document.text for o in outcomes if o.document}


def said(outcomes: list[Outcome]) -> list[tuple[str, str, str]]:
    return [(v.rule, v.verdict, v.value) for o in outcomes for v in o.verdicts]


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(streams, "PIECE", 7)
    monkeypatch.setattr(streams, "LARGEST_BLOCK", 40)
    monkeypatch.setattr(streams, "LONGEST_LINE", 60)
    yield


def test_a_plain_file_is_one_document_with_nothing_said(tmp_path: Path) -> None:
    (outcome,) = read_bytes(tmp_path, "Grüße\r\n  zwei \t\n".encode(), license="CC0-1.0")
    assert outcome.verdicts == ()
    assert outcome.document is not None
    assert outcome.document.text == "Grüße\r\n  zwei \t\n"  # to the letter: cleaning comes later
    assert outcome.document.doc_id == make_doc_id("a.txt", "a.txt")
    assert outcome.document.license == "CC0-1.0"


@pytest.mark.parametrize("raw", [b"", b" \n\t\n", b"\xef\xbb\xbf", b"\0\0"])
def test_a_file_without_text_is_dropped_and_said(tmp_path: Path, raw: bytes) -> None:
    (outcome,) = read_bytes(tmp_path, raw)
    assert outcome.document is None
    assert outcome.verdicts[-1].rule == "empty" and outcome.verdicts[-1].verdict == "dropped"
    assert all(verdict.verdict == "changed" for verdict in outcome.verdicts[:-1])


@given(st.binary(max_size=60))
def test_decoding_is_python_s_and_the_count_is_exact(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    raw = b"text " + raw + "�".encode()  # with a U+FFFD that someone wrote, which is no fault
    outcomes = read_bytes(tmp_path_factory.mktemp("d"), raw)
    (document,) = texts(outcomes).values()
    assert document == raw.decode("utf-8", "replace").replace("\0", "")
    marked = raw.decode("utf-8", "backslashreplace")
    bad = [value for rule, _, value in said(outcomes) if rule == "invalid_utf8"]
    try:
        raw.decode()
        assert bad == []
    except UnicodeDecodeError:
        without = raw.decode("utf-8", "ignore")
        assert bad == [str(len(raw.decode("utf-8", "replace")) - len(without))]
        assert marked != document


def test_invalid_utf8_is_replaced_counted_and_placed(tmp_path: Path) -> None:
    (outcome,) = read_bytes(tmp_path, b"good \xff\xfe bad \xe2\x82 end")
    assert outcome.document is not None and outcome.document.text == "good �� bad � end"
    (verdict,) = outcome.verdicts
    assert (verdict.stage, verdict.rule, verdict.verdict, verdict.value) == ("read", "invalid_utf8", "changed", "3")
    assert verdict.detail == "a.txt: the first at byte 5 of the file"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("document", ["file", "line", "paragraph"])
@pytest.mark.parametrize("block", [1 << 20, 16])
def test_the_first_bad_byte_is_where_it_is_said_to_be(
    tmp_path: Path, mark: bytes, document: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LARGEST_BLOCK", block)
    for body in (b"ab\xffcd\nef gh ij\nkl mn op\nqr\n", b"ab cd\nef gh ij\nkl mn\xff op\nqr\n"):
        raw = mark + body
        details = [v.detail for o in read_bytes(tmp_path, raw, document=document) for v in o.verdicts]
        (detail,) = [detail for detail in details if "the first at" in detail]
        byte, of = re.search(r"the first at byte (\d+) of (.*)$", detail).groups()  # type: ignore[union-attr]
        place = detail.partition(": ")[0]
        if of == "what begins there":  # at the start of that line
            line = int(place.rpartition(":")[2])
            start = len(b"".join(raw.splitlines(keepends=True)[: line - 1]))
        else:
            start = 0
        assert raw[start + int(byte)] == 0xFF, detail


def test_the_first_bad_byte_of_a_recoded_text_is_said_to_be_of_that(tmp_path: Path) -> None:
    raw = b"\xff\xfe" + "a".encode("utf-16-le") + "\ud800".encode("utf-16-le", "surrogatepass") + b"b\0"
    (outcome,) = read_bytes(tmp_path, raw)
    assert outcome.verdicts[-1].detail == "a.txt: the first at byte 1 of the file, as UTF-8 (it is utf-16-le)"


def test_invalid_utf8_is_dropped_when_the_recipe_says_so(tmp_path: Path) -> None:
    (outcome,) = read_bytes(tmp_path, b"good \xff bad", invalid_utf8="drop")
    assert outcome.document is None
    assert said([outcome]) == [("invalid_utf8", "dropped", "1")]


def test_nul_characters_are_removed_and_counted(tmp_path: Path) -> None:
    outcomes = read_bytes(tmp_path, b"a\0b\0c")
    assert texts(outcomes) == {"a.txt": "abc"}
    assert said(outcomes) == [("nul", "changed", "2")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
def test_byte_order_marks(tmp_path: Path, encoding: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PIECE", piece)
    text = "Größe 漢字 😀\nzwei"
    outcomes = read_bytes(tmp_path, ("\ufeff" + text).encode(encoding))
    assert texts(outcomes) == {"a.txt": text}
    assert said(outcomes) == [("bom", "changed", encoding)]


def test_faults_in_utf16_are_counted(tmp_path: Path) -> None:
    lone, half = "\ud800".encode("utf-16-le", "surrogatepass"), b"x"
    outcomes = read_bytes(
        tmp_path, b"\xff\xfe" + "a".encode("utf-16-le") + lone + "b\ufffdc".encode("utf-16-le") + half
    )
    assert texts(outcomes) == {"a.txt": "a\ufffdb\ufffdc\ufffd"}
    assert said(outcomes) == [("bom", "changed", "utf-16-le"), ("invalid_utf8", "changed", "2")]


@pytest.mark.parametrize(
    ("cookie", "encoding", "python"),
    [
        ("# -*- coding: latin-1 -*-", "iso8859-1", "iso-8859-1"),
        ("#!/usr/bin/python\r\n# vim: set fileencoding=cp1251 :", "cp1251", "cp1251"),
        ("\f\n  #coding=koi8-r", "koi8-r", "koi8-r"),
        ("# coding: euc_jp", "euc_jp", "euc_jp"),
        ("x = 1\n# coding: latin-1", "utf-8", "utf-8"),
        ("\n\n# coding: latin-1", "utf-8", "utf-8"),
        ("s = '# coding: latin-1'", "utf-8", "utf-8"),
        ("# coding: UTF_8", "utf-8", "utf-8"),
        ("# -*- coding: utf-8-unix -*-", "utf-8", "utf-8"),
        ("# -*- coding: latin-1-unix -*-", "iso8859-1", "iso-8859-1"),
        ("# coding: iso-latin-1", "iso8859-1", "iso-8859-1"),
    ],
)
def test_source_files_of_python_are_read_as_they_declare(
    tmp_path: Path, cookie: str, encoding: str, python: str
) -> None:
    word = {"koi8-r": "слово", "cp1251": "слово", "euc_jp": "言葉"}.get(encoding, "été")
    source = f"{cookie}\ns = '{word}'\n"
    raw = source.encode(encoding)
    assert tokenize.detect_encoding(io.BytesIO(raw).readline)[0] == python
    for name in ("a.py", "b.pyi"):
        outcomes = read_bytes(tmp_path, raw, name)
        assert texts(outcomes) == {name: source}
        assert said(outcomes) == ([] if encoding == "utf-8" else [("charset", "changed", encoding)])
    (other,) = read_bytes(tmp_path, raw, "c.sh")
    assert not any(verdict.rule == "charset" for verdict in other.verdicts), "no file of Python's"


@pytest.mark.parametrize("name", ["klingon", "rot13", "zip", "utf-16", "unicode_escape", "cp037"])
def test_what_is_no_encoding_of_source_files_is_noted(tmp_path: Path, name: str) -> None:
    outcomes = read_bytes(tmp_path, f"# coding: {name}\ns = '\\u00e9é'\n".encode(), "a.py")
    assert texts(outcomes) == {"a.py": f"# coding: {name}\ns = '\\u00e9é'\n"}
    assert said(outcomes) == [("unknown_charset", "changed", name)]


def test_what_a_declared_encoding_lacks_is_counted(tmp_path: Path) -> None:
    outcomes = read_bytes(tmp_path, b"# coding: cp1252\ns = '\xe9\x81'\n", "a.py")
    assert texts(outcomes) == {"a.py": "# coding: cp1252\ns = 'é\ufffd'\n"}
    assert said(outcomes) == [("charset", "changed", "cp1252"), ("invalid_utf8", "changed", "1")]
    assert "as UTF-8 (it is cp1252)" in outcomes[0].verdicts[1].detail
    assert said(read_bytes(tmp_path, b"\xef\xbb\xbf# coding: latin-1\n\xc3\xa9 = 1", "a.py")) == [
        ("bom", "changed", "utf-8")
    ]


def pack(data: bytes, codec: str) -> bytes:
    if codec == "gz":
        return gzip.compress(data)
    if codec == "zst":
        return zstandard.ZstdCompressor(write_checksum=True).compress(data)
    return bz2.compress(data) if codec == "bz2" else lzma.compress(data)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["gz", "zst", "bz2", "xz"])
def test_packed_files_read_like_plain_ones(tmp_path: Path, codec: str) -> None:
    text = "".join(f"line {i} of the file\n" for i in range(200_000))
    half = len(text) // 2
    packed = pack(text[:half].encode(), codec) + pack(text[half:].encode(), codec)  # two members, as logs have them
    assert texts(read_bytes(tmp_path, packed, f"a.txt.{codec}")) == {f"a.txt.{codec}": text}
    assert texts(read_bytes(tmp_path, packed, "b.txt")) == {"b.txt": text}  # known by its first bytes


@pytest.mark.parametrize("codec", ["gz", "xz"])
@pytest.mark.parametrize("zeros", [1, 512, 600_000])
def test_zeros_behind_packed_data_are_padding(tmp_path: Path, codec: str, zeros: int) -> None:
    zeros += -zeros % 4 if codec == "xz" else 0  # its members are multiples of four bytes
    packed = pack(b"some words", codec) + bytes(zeros) + pack(b" and more", codec) + bytes(zeros)
    assert texts(read_bytes(tmp_path, packed, f"a.txt.{codec}")) == {f"a.txt.{codec}": "some words and more"}
    with pytest.raises(DataError, match="cut off or damaged"):
        read_bytes(tmp_path, packed + b"x", f"b.txt.{codec}")


@pytest.mark.parametrize("codec", ["gz", "zst", "bz2", "xz"])
@pytest.mark.parametrize("kept", [3, 0.5, 0.999])
def test_truncated_packed_files_are_refused_with_file_and_offset(tmp_path: Path, codec: str, kept: float) -> None:
    raw = pack(bytes(zlib.crc32(str(i).encode()) % 96 + 32 for i in range(300_000)), codec)
    cut = raw[: int(kept if kept > 1 else len(raw) * kept)]
    with pytest.raises(
        DataError, match=rf"a\.txt\.{codec}: its .* cut off or damaged near byte \d+ of {len(cut)}"
    ) as e:
        read_bytes(tmp_path, cut, f"a.txt.{codec}")
    assert "-t" in e.value.remedy


@pytest.mark.parametrize("codec", ["gz", "zst", "bz2", "xz"])
def test_damaged_packed_files_are_refused(tmp_path: Path, codec: str) -> None:
    raw = bytearray(pack(b"some words to read, over and over. " * 9_000, codec))
    raw[-3] ^= 1  # in the checksum: all of the data is there
    with pytest.raises(DataError, match="cut off or damaged"):
        read_bytes(tmp_path, bytes(raw), f"a.txt.{codec}")


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["gz", "zst", "bz2", "xz"])
def test_all_rows_before_a_cut_are_kept(tmp_path: Path, codec: str) -> None:
    words = [f"{zlib.crc32(str(i).encode()):08x}" for i in range(200_000)]
    rows = [json.dumps({"text": " ".join(words[n : n + 40])}) for n in range(0, len(words), 40)]
    raw = pack("\n".join(rows).encode(), codec)

    def rows_of(data: bytes) -> int:
        outcomes = read_bytes(tmp_path, data, f"a.jsonl.{codec}", max_bad_rows=1)
        assert said(outcomes)[-1][:2] == ("damaged", "dropped")
        kept = list(texts(outcomes).values())
        assert kept == [json.loads(row)["text"] for row in rows[: len(kept)]]
        return len(kept)

    assert rows_of(raw[:-4]) == len(rows) - 1, "of the last one nothing tells that it is whole"
    assert rows_of(raw[: len(raw) * 3 // 4]) > (0.74 if codec in ("gz", "xz") else 0.4) * len(rows), "by their blocks"


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["zst", "bz2", "xz"])
def test_a_decompression_bomb_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    monkeypatch.setattr(streams, "BOMB_BYTES", 10_000_000)
    raw = pack(b"\n" * 40_000_000, codec)
    (found,) = read_bytes(tmp_path, raw, f"a.txt.{codec}", among_many=True)
    assert said([found]) == [("bomb", "dropped", "")] and found.loses
    assert "grows more than 500 times" in found.verdicts[0].detail
    with pytest.raises(DataError, match="grows more than 500 times") as alone:
        read_bytes(tmp_path, raw, f"a.txt.{codec}")
    assert "decompress it yourself" in alone.value.remedy


def test_a_file_that_changed_since_it_was_listed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")
    config = parse(SourceConfig, {"path": "a.txt"})
    (item,) = list_inputs(config, tmp_path, tmp_path)
    path.write_text("after!")
    with pytest.raises(DataError, match=r"a\.txt changed while it was used"):
        list(read_input(item, config))
    path.unlink()
    with pytest.raises(DataError, match=r"cannot read .*a\.txt"):
        list(read_input(item, config))


LINES = st.lists(st.text(st.sampled_from("aé漢 \r"), max_size=30), min_size=1, max_size=12)


@pytest.mark.slow
@settings(max_examples=150)
@given(LINES, st.booleans(), st.sampled_from(["txt", "txt.gz", "txt.zst"]), st.booleans())
def test_large_files_are_cut_at_lines_and_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], ended: bool, suffix: str, bom: bool
) -> None:
    raw = b"\xef\xbb\xbf" * bom + ("\n".join(rows) + "\n" * ended).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "PIECE", 7)
        patch.setattr(streams, "LARGEST_BLOCK", 40)
        folder = tmp_path_factory.mktemp("d")
        outcomes = read_bytes(folder, pack(raw, suffix.rpartition(".")[2]), f"a.{suffix}")
    body = raw[3 * bom :]
    if len(outcomes) == 1:
        assert len(body) <= 40 or len(max(body.split(b"\n"), key=len)) + 7 > 40
        assert outcomes[0].document is None or outcomes[0].document.text.encode() == body
        return
    at = 3 * bom
    for outcome in outcomes:
        verdict = next(v for v in outcome.verdicts if v.rule == "cut")
        locator = verdict.detail.partition(": ")[0]
        first, last = map(int, locator.partition("#bytes=")[2].split("-"))
        assert first == at  # no gap, no overlap
        at = last + 1
        part = raw[first : last + 1]
        assert part.endswith(b"\n") or last + 1 == len(raw)
        assert len(part) <= 40 or len(max(part.split(b"\n"), key=len)) + 7 > 40  # a long line, and what came with it
        if outcome.document:
            assert outcome.document.locator == locator
            assert outcome.document.text.encode() == part
        else:
            assert not part.strip() and outcome.verdicts[-1].rule == "empty"
    assert at == len(raw)


def test_a_line_beyond_the_limit_is_left_out_and_measured(tmp_path: Path, small_limits: None) -> None:
    long = b"x" * 100
    outcomes = read_bytes(tmp_path, b"before\n" + long + b"\nafter\n")
    assert texts(outcomes) == {"a.txt#bytes=0-6": "before\n", "a.txt#bytes=108-113": "after\n"}
    assert [s for s in said(outcomes) if s[1] == "dropped"] == [("too_long", "dropped", "101")]
    assert "a.txt#bytes=7-107" in outcomes[1].verdicts[0].detail
    (lonely,) = read_bytes(tmp_path, long, among_many=True)
    assert said([lonely]) == [("too_long", "dropped", "100")] and lonely.loses


@pytest.mark.parametrize("document", ["file", "line", "paragraph"])
def test_a_line_beyond_the_limit_is_told(tmp_path: Path, small_limits: None, document: Any) -> None:
    unusable = Unusable()
    read_bytes(tmp_path, b"before\n" + b"x" * 100 + b"\nafter\n", document=document, unusable=unusable)
    assert unusable.plain()["rows"] == 1 and "bytes, more than" in unusable.plain()["first"][0]


def test_lines_are_documents(tmp_path: Path) -> None:
    outcomes = read_bytes(tmp_path, b"\xef\xbb\xbfone\r\n\n thr\xffee", document="line")
    assert texts(outcomes) == {"a.txt:1": "one", "a.txt:3": " thr�ee"}
    assert said(outcomes) == [("bom", "changed", "utf-8"), ("empty", "dropped", "0"), ("invalid_utf8", "changed", "1")]
    assert outcomes[2].verdicts[0].detail == "a.txt:3: the first at byte 4 of what begins there"


def test_paragraphs_are_documents(tmp_path: Path) -> None:
    outcomes = read_bytes(tmp_path, b"\n\none\r\ntwo\r\n\r\n \t\nthree\n", document="paragraph")
    assert texts(outcomes) == {"a.txt:3": "one\r\ntwo", "a.txt:7": "three"}
    assert said(outcomes) == []
    assert said(read_bytes(tmp_path, b"\n \n\n", document="paragraph")) == [("empty", "dropped", "0")]


def test_large_paragraphs_are_cut_and_long_lines_left_out(tmp_path: Path, small_limits: None) -> None:
    raw = b"".join(b"line %d of one paragraph\n" % i for i in range(4)) + b"y" * 90 + b"\nend"
    outcomes = read_bytes(tmp_path, raw, document="paragraph")
    assert "".join(texts(outcomes).values()) == raw.replace(b"y" * 90, b"").replace(b"\n", b"").decode()
    assert [rule for rule, _, _ in said(outcomes)] == ["cut", "cut", "cut", "too_long"]


def test_memory_stays_bounded_by_the_longest_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LONGEST_LINE", 2 << 20)
    path = tmp_path / "a.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(96):
            file.write(b"z" * (1 << 20))  # one line of 96 MiB
    config = parse(SourceConfig, {"path": path.name})
    (item,) = list_inputs(config, tmp_path, tmp_path)
    tracemalloc.start()
    outcomes = list(read_input(item, config, among_many=True))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert said(outcomes) == [("too_long", "dropped", str(96 << 20))]
    assert peak < 16 << 20
