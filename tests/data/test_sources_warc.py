"""WARC and WET files in every packing and in archives, and those that hold no record."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.data.test_sources_archives import make_tar, make_zip
from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources import SourceConfig, list_inputs, read_input
from tilth.data.sources.web.warc import make_record

DATE = "2026-01-31T12:00:00Z"
MEMBERS = [
    make_record("conversion", f"http://e.org/{n}", DATE, f"text number {n}".encode(), "text/plain")[1] for n in range(3)
]
PLAIN = b"".join(map(gzip.decompress, MEMBERS))
PACKED: dict[str, bytes] = {
    "": PLAIN,
    ".gz": b"".join(MEMBERS),
    ".zst": zstandard.ZstdCompressor().compress(PLAIN),
    ".bz2": bz2.compress(PLAIN),
    ".xz": lzma.compress(PLAIN),
}
TEXTS = {f"http://e.org/{n}": f"text number {n}" for n in range(3)}


ARCHIVES = {".zip": make_zip, ".tar": make_tar}


def read(path: Path, raw: bytes, *, among_many: bool = True) -> list[Outcome]:
    path.write_bytes(raw)
    config = parse(SourceConfig, {"path": path.name})
    [item] = list_inputs(config, path.parent, path.parent)
    return list(read_input(item, config, among_many=among_many))


def texts(found: list[Outcome]) -> dict[str, str]:
    return {one.document.locator: one.document.text for one in found if one.document}


def rules(found: list[Outcome]) -> list[str]:
    return [verdict.rule for one in found for verdict in one.verdicts]


@pytest.mark.parametrize("kind", [".wet", ".warc"])
@pytest.mark.parametrize("packing", PACKED)
def test_records_are_read_whatever_the_file_is_packed_in(tmp_path: Path, kind: str, packing: str) -> None:
    name = f"a{kind}{packing}"
    found = read(tmp_path / name, PACKED[packing])
    assert texts(found) == {f"{name}!{url}": text for url, text in TEXTS.items()} and rules(found) == []


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("suffix", ARCHIVES)
def test_and_in_an_archive(tmp_path: Path, suffix: str, packing: str) -> None:
    inner, outer = f"deep/a.warc{packing}", f"w{suffix}"
    found = read(tmp_path / outer, ARCHIVES[suffix]({inner: PACKED[packing], "b.txt": b"words"}))
    expected = {f"{outer}!{inner}!{url}": text for url, text in TEXTS.items()}
    assert texts(found) == {**expected, f"{outer}!b.txt": "words"} and rules(found) == []


@pytest.mark.parametrize("suffix", ["", *ARCHIVES])
def test_damage_to_one_gzip_member_costs_one_record(tmp_path: Path, suffix: str) -> None:
    hurt = bytearray(MEMBERS[1])
    hurt[len(hurt) // 2] ^= 0x55
    raw = MEMBERS[0] + bytes(hurt) + MEMBERS[2]
    outer = f"w{suffix}" if suffix else "a.warc.gz"
    found = read(tmp_path / outer, ARCHIVES[suffix]({"a.warc.gz": raw}) if suffix else raw)
    assert list(texts(found).values()) == ["text number 0", "text number 2"]
    assert not any(one.loses for one in found) and len(rules(found)) == 1


def test_zeros_between_members_and_behind_them_are_padding(tmp_path: Path) -> None:
    raw = MEMBERS[0] + bytes(700) + MEMBERS[1] + MEMBERS[2] + bytes(300_000)
    found = read(tmp_path / "a.warc.gz", raw)
    assert list(texts(found).values()) == [f"text number {n}" for n in range(3)] and rules(found) == []


@pytest.mark.parametrize(("packing", "pack"), [(".bz2", bz2.compress), (".xz", lzma.compress)])
def test_of_a_packing_that_is_cut_off_all_whole_records_are_read(
    tmp_path: Path, packing: str, pack: Callable[[bytes], bytes]
) -> None:
    raw = pack(PLAIN[: len(PLAIN) // 2]) + pack(PLAIN[len(PLAIN) // 2 :])[:40]
    found = read(tmp_path / f"a.warc{packing}", raw)
    assert list(texts(found).values()) == ["text number 0"]
    assert [one.verdicts[-1].rule for one in found if one.loses] == ["damaged"]
    inside = read(tmp_path / "w.tar", make_tar({f"a.warc{packing}": raw, "b.txt": b"words"}))
    assert list(texts(inside).values()) == ["text number 0", "words"] and rules(inside)[-1] == "damaged"


@pytest.mark.parametrize(
    "raw", [b"<html>an error page of the server's</html>", gzip.compress(b"something else", mtime=0)]
)
def test_a_file_without_any_record_is_lost_by_name(tmp_path: Path, raw: bytes) -> None:
    found = read(tmp_path / "a.warc.gz", raw)
    [lost] = [one.verdicts[-1] for one in found if one.loses]
    assert lost.rule == "no_record" and lost.detail.startswith("a.warc.gz: no WARC record can be read in it: ")
    with pytest.raises(DataError, match=r"a\.warc\.gz: no WARC record can be read in it"):
        read(tmp_path / "a.warc.gz", raw, among_many=False)
    inside = read(tmp_path / "w.zip", make_zip({"a.warc.gz": raw, "b.txt": b"words"}))
    assert list(texts(inside).values()) == ["words"] and "no_record" in rules(inside)


def test_one_whose_records_hold_no_text_is_not(tmp_path: Path) -> None:
    found = read(tmp_path / "a.warc", gzip.decompress(make_record("warcinfo", "", DATE, b"x: y\r\n", "text/plain")[1]))
    assert rules(found) == ["empty"] and not found[0].loses
    assert rules(read(tmp_path / "b.warc.zst", zstandard.ZstdCompressor().compress(b""))) == ["empty"]


@pytest.mark.parametrize("packed", [False, True])
def test_frames_that_share_a_dictionary_are_read(tmp_path: Path, packed: bool) -> None:
    records = [gzip.decompress(member) for member in MEMBERS]
    dictionary = zstandard.train_dictionary(1024, [b"%d %s" % (n, record) for n in range(200) for record in records])
    packer = zstandard.ZstdCompressor(dict_data=dictionary, write_checksum=True)
    content = zstandard.ZstdCompressor().compress(dictionary.as_bytes()) if packed else dictionary.as_bytes()
    first = b"\x5d\x2a\x4d\x18" + struct.pack("<I", len(content)) + content
    raw = first + b"".join(map(packer.compress, records))
    found = read(tmp_path / "a.warc.zst", raw)
    assert texts(found) == {f"a.warc.zst!{url}": text for url, text in TEXTS.items()} and rules(found) == []
    for broken in (raw[:-5], raw[: len(first) - 5], raw[:-20] + b"\xff" + raw[-19:]):
        found = read(tmp_path / "b.warc.zst", broken)
        assert rules(found) == ["damaged"]
        assert set(texts(found).values()) <= set(TEXTS.values())
    too_large = b"\x5d\x2a\x4d\x18" + struct.pack("<I", 1 << 30) + content
    [lost] = read(tmp_path / "c.warc.zst", too_large)
    assert "a dictionary of 1073741824 bytes" in lost.verdicts[0].detail
