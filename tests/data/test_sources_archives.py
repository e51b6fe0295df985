"""Archives: the same documents as from files; what is refused in them, and bombs."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import re
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.data.pdfs import make_pdf
from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources import SourceConfig, archives, list_inputs, read_input, streams
from tilth.data.sources.unusable import Unusable

pytestmark = pytest.mark.slow


def parquet(values: list[str]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": values}), file)
    return file.getvalue()


FILES = {
    "a.txt": "Grüße\n".encode(),
    "deep/er/b.md": b"# Title\n",
    "rows.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
    "rows.tsv": b"id\ttext\n1\tcell, one\n",
    "rows.json": b'["x", "y"]',
    "rows.parquet": parquet(["p", "q"]),
    "packed.txt.gz": gzip.compress(b"packed\n"),
    "prog.rs": b"fn main() {}\n",
}


def make_zip(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def make_tar(files: dict[str, bytes], add: Callable[[tarfile.TarFile], None] = lambda archive: None) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        add(archive)
    return file.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".tar": bytes,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
    ".tar.zst": zstandard.ZstdCompressor().compress,
}


def read(path: Path, raw: bytes | None = None, unusable: Unusable | None = None, **data: Any) -> list[Outcome]:
    if raw is not None:
        path.write_bytes(raw)
    config = parse(SourceConfig, {"path": path.name, **data})
    items = list_inputs(config, path.parent, path.parent)
    return [o for item in items for o in read_input(item, config, among_many=True, unusable=unusable)]


def lost(outcomes: list[Outcome]) -> list[str]:
    """What cannot be read to its end: an archive, or a file on disk."""
    return [outcome.verdicts[-1].detail for outcome in outcomes if outcome.loses]


def source(path: Path) -> tuple[SourceConfig, Path, Path]:
    return parse(SourceConfig, {"path": path.name}), path.parent, path.parent


def texts(outcomes: list[Outcome]) -> dict[str, str]:
    return {o.document.locator: o.document.text for o in outcomes if o.document}


def dropped(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    """(rule, where) of each drop."""
    found = [v for o in outcomes for v in o.verdicts if v.verdict == "dropped"]
    return [(v.rule, v.detail.split(": ")[0]) for v in found]


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, str]:
    """What the files give outside of an archive."""
    folder = tmp_path / "plain"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return {place.removeprefix("plain/"): text for place, text in texts(read(folder)).items()}


@pytest.mark.parametrize("suffix", [".zip", *PACKERS])
def test_files_in_an_archive_read_as_those_outside(tmp_path: Path, plain: dict[str, str], suffix: str) -> None:
    raw = make_zip(FILES) if suffix == ".zip" else PACKERS[suffix](make_tar(FILES))
    outcomes = read(tmp_path / f"a{suffix}", raw)
    assert texts(outcomes) == {f"a{suffix}!{place}": text for place, text in plain.items()}
    assert len(plain) == 11 and dropped(outcomes) == []
    code = next(o.document for o in outcomes if o.document and o.document.locator.endswith(".rs"))
    assert code.meta == {"code": "rust"}


def test_a_format_is_meant_for_the_files_in_it(tmp_path: Path) -> None:
    raw = make_zip({"a": b'{"text": "x"}', "b.txt": b"no row"})
    outcomes = read(tmp_path / "a.zip", raw, format="jsonl")
    assert texts(outcomes) == {"a.zip!a:1": "x"}
    assert dropped(outcomes) == [("other_format", "a.zip!b.txt")]


def test_pages_and_pdfs_in_an_archive(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    pytest.importorskip("pypdfium2")
    page = b"<html><head><title>T</title></head><body><p>A page with some words in it.</p></body></html>"
    deep = b"<html><body>" + b"<div>" * 100_000
    files = {"a.html": page, "deep.htm": deep, "b.pdf": make_pdf(["words"], title="P"), "c.pdf": b"%PDF-1.4 broken"}
    outcomes = read(tmp_path / "a.zip", make_zip(files))
    assert texts(outcomes) == {"a.zip!a.html": "A page with some words in it.", "a.zip!b.pdf": "words"}
    assert dropped(outcomes) == [("too_deep", "a.zip!deep.htm"), ("broken", "a.zip!c.pdf")]
    assert [o.document.meta.get("title") for o in outcomes if o.document] == ["T", "P"]


EVIL = ["../up.txt", "/abs.txt", "a/../../up.txt", "C:\\win.txt", "..\\up.txt", "\\abs.txt", "//host/x.txt"]


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_names_that_lead_out_are_refused_and_named(tmp_path: Path, name: str, suffix: str) -> None:
    inside = tmp_path / "in" / "side"
    inside.mkdir(parents=True)
    files = {name: b"evil", "good.txt": b"good"}
    outcomes = read(inside / f"a{suffix}", make_zip(files) if suffix == ".zip" else make_tar(files))
    assert texts(outcomes) == {f"a{suffix}!good.txt": "good"}
    assert [rule for rule, _ in dropped(outcomes)] == ["unsafe_name"]
    assert name in outcomes[0].verdicts[0].detail
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"a{suffix}"]


def test_links_devices_hidden_and_double_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")

    def add(archive: tarfile.TarFile) -> None:
        for name, kind in (
            ("soft.txt", tarfile.SYMTYPE),
            ("hard.txt", tarfile.LNKTYPE),
            ("pipe.txt", tarfile.FIFOTYPE),
            ("null.txt", tarfile.CHRTYPE),
            ("folder", tarfile.DIRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(tmp_path / "secret.txt")
            archive.addfile(info)
        for name in (".hidden/a.txt", "__MACOSX/a.txt", "./a.txt", "a.bin", "b.zip", "last.txt"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"data"))

    outcomes = read(tmp_path / "a.tar", make_tar({"a.txt": b"first"}, add))
    assert texts(outcomes) == {"a.tar!a.txt": "first", "a.tar!last.txt": "data"}
    assert dropped(outcomes) == [
        ("link", "a.tar!soft.txt"),
        ("link", "a.tar!hard.txt"),
        ("device", "a.tar!pipe.txt"),
        ("device", "a.tar!null.txt"),
        ("hidden", "a.tar!.hidden/a.txt"),
        ("hidden", "a.tar!__MACOSX/a.txt"),
        ("duplicate_name", "a.tar!a.txt"),
        ("unknown_suffix", "a.tar!a.bin"),
        ("nested_archive", "a.tar!b.zip"),
    ]


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link.txt")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr(zipfile.ZipInfo("lzma.txt"), "x" * 99, zipfile.ZIP_LZMA)
        archive.writestr("good.txt", "good")
    assert dropped(read(tmp_path / "a.zip")) == [("link", "a.zip!link.txt"), ("unsupported", "a.zip!lzma.txt")]


def with_flag_or_method(name: str, *, encrypted: bool, files: dict[str, bytes]) -> bytes:
    """A zip in which one file says that it needs a password, or is packed by Deflate64."""
    raw = bytearray(make_zip(files))
    at, local = (6, 8), raw.index(name.encode()) - 30  # of flags and method in the local header
    directory = raw.rindex(name.encode()) - 46
    for header, more in ((local, 0), (directory, 2)):
        raw[header + at[not encrypted] + more] = 1 if encrypted else 9
    return bytes(raw)


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_file_that_is_packed_as_none_can_be_read_is_a_bad_row_of_its_archive(
    tmp_path: Path, *, encrypted: bool
) -> None:
    rule, why = ("encrypted", "it needs a password") if encrypted else ("unsupported", "packed by method 9")
    both = with_flag_or_method("a.txt", encrypted=encrypted, files={"a.txt": b"words", "b.txt": b"words"})
    unusable = Unusable()
    found = read(tmp_path / "a.zip", both, unusable=unusable)
    assert dropped(found) == [(rule, "a.zip!a.txt")] and not lost(found) and len(texts(found)) == 1
    assert unusable.plain()["first"] == [f"a.zip: 1 of its 2 files cannot be used: {why} (a.zip!a.txt)"]
    assert not dropped(read(tmp_path / "a.zip", exclude=["a.txt"]))[1:], "it can be left out by its name"
    alone = with_flag_or_method("a.txt", encrypted=encrypted, files={"a.txt": b"words"})
    outcomes = read(tmp_path / "a.zip", alone)
    assert lost(outcomes) == [f"a.zip: its only file cannot be used: {why} (a.zip!a.txt)"]
    assert "unzip a.zip" in outcomes[-1].remedy
    hidden = {"__MACOSX/a.txt": b"x", "a.png": b"x", "b.txt": b"words"}
    for name in ("__MACOSX/a.txt", "a.png"):
        assert not lost(read(tmp_path / "a.zip", with_flag_or_method(name, encrypted=encrypted, files=hidden)))


def test_an_archive_in_an_archive_is_told_and_alone_is_all_there_is(tmp_path: Path) -> None:
    inner = make_zip({"a.txt": b"words"})
    unusable = Unusable()
    few = read(tmp_path / "a.zip", make_zip({"in.zip": inner, "more.zip": inner, "b.txt": b"b"}), unusable=unusable)
    assert not lost(few) and len(dropped(few)) == 2
    assert unusable.plain()["first"] == ["a.zip: an archive in an archive, which is not read (a.zip!in.zip and 1 more)"]
    alone = read(tmp_path / "a.zip", make_zip({"in.zip": inner, "more.zip": inner, "a.png": b"x"}))
    assert lost(alone) == ["a.zip!in.zip: an archive in an archive, which is not read"]
    assert alone[-1].remedy == "unpack it (`unzip a.zip`): archives in a folder are read" and len(dropped(alone)) == 3


@pytest.fixture
def small_bombs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(streams, "BOMB_BYTES", 10_000_000)
    monkeypatch.setattr(archives, "_ENTRY_BOMB", 5_000_000)
    yield


@pytest.mark.usefixtures("small_bombs")
def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    one = make_zip({"good.txt": b"good", "bomb.txt": b"\n" * 9_000_000})
    tracemalloc.start()
    outcomes = read(tmp_path / "one.zip", one)
    many = read(tmp_path / "many.zip", make_zip({f"{n}.txt": b"\n" * 4_000_000 for n in range(5)}))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts(outcomes) == {"one.zip!good.txt": "good"}
    assert dropped(outcomes) == [("bomb", "one.zip!bomb.txt")]
    assert texts(many) == {} and dropped(many) == [("bomb", "many.zip")] and len(lost(many)) == 1
    assert peak < 30_000_000  # 9 MB are what making it takes


@pytest.mark.usefixtures("small_bombs")
@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst", ".tar.bz2", ".tar.xz"])
def test_a_packed_tar_bomb_is_stopped(tmp_path: Path, suffix: str) -> None:
    raw = PACKERS[suffix](make_tar({"good.txt": b"good", "bomb.bin": b"\0" * 30_000_000, "late.txt": b"late"}))
    outcomes = read(tmp_path / f"a{suffix}", raw)
    assert texts(outcomes) == {f"a{suffix}!good.txt": "good"}
    assert [rule for rule, _ in dropped(outcomes)] == ["unknown_suffix", "bomb"] and len(lost(outcomes)) == 1


@pytest.mark.usefixtures("small_bombs")
def test_a_bomb_packed_in_an_entry_is_left_out_and_the_rest_read(tmp_path: Path) -> None:
    files = {"bomb.txt.zst": zstandard.ZstdCompressor().compress(b"\n" * 40_000_000), "good.txt": b"good"}
    outcomes = read(tmp_path / "a.zip", make_zip(files))
    assert texts(outcomes) == {"a.zip!good.txt": "good"}
    assert dropped(outcomes) == [("bomb", "a.zip!bomb.txt.zst")]


def test_too_many_files_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_FILES", 3)
    outcomes = read(tmp_path / "a.tar", make_tar({f"{n}.txt": b"x" for n in range(5)}))
    assert len(texts(outcomes)) == 3 and dropped(outcomes) == [("too_many_files", "a.tar")]


def test_a_header_that_would_fill_memory_is_refused(tmp_path: Path) -> None:
    huge = {"comment": "x" * 200_000}

    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("long.txt")
        info.pax_headers = huge
        archive.addfile(info)

    outcomes = read(tmp_path / "a.tar", make_tar({"good.txt": b"good"}, add))
    assert texts(outcomes) == {"a.tar!good.txt": "good"}
    assert dropped(outcomes) == [("damaged", "a.tar")] and "a header of" in outcomes[1].verdicts[0].detail


def test_a_tar_cut_anywhere_loses_nothing_silently(tmp_path: Path) -> None:
    files = {f"{n}.txt": f"text {n} ".encode() * 100 for n in range(5)}
    raw = make_tar(files)
    for cut in range(0, 7 * 1024, 300):
        outcomes = read(tmp_path / "a.tar", raw[:cut])
        whole = sum(1536 * n + 512 + 700 <= cut for n in range(5))  # a header, and 700 bytes in two blocks
        assert len(texts(outcomes)) == whole
        if whole < 5 and (cut % 1536 or not cut):  # at a border between entries nothing tells that more came
            assert dropped(outcomes)[-1][0] == "damaged"


@pytest.mark.parametrize("size", [1 << 39, 1 << 45, 1 << 60])
@pytest.mark.parametrize("name", ["huge.txt", "huge.bin"])
def test_a_tar_that_states_more_than_it_has_ends_where_it_ends(tmp_path: Path, name: str, size: int) -> None:
    huge = tarfile.TarInfo(name)
    huge.size = size  # more than eight octal digits hold: in base 256
    raw = make_tar({"good.txt": b"good"})[:1024] + huge.tobuf(tarfile.GNU_FORMAT) + b"abc"
    started = time.process_time()
    outcomes = read(tmp_path / "a.tar", raw)
    assert time.process_time() - started < 2
    assert texts(outcomes) == {"a.tar!good.txt": "good"}
    refused = [rule for rule, _ in dropped(outcomes)]
    bomb = ["bomb"] if size >= archives.MOST_BYTES else []
    said = {"huge.txt": bomb, "huge.bin": ["unknown_suffix"]}[name]
    assert refused == [*said, "damaged"]
    assert re.split("[!:]", lost(outcomes)[0])[0] == "a.tar"


def test_a_tar_with_garbage_between_entries_is_damaged(tmp_path: Path) -> None:
    raw = bytearray(make_tar({"a.txt": b"a", "b.txt": b"b", "c.txt": b"c"}))
    raw[1024:1124] = b"x" * 100  # the second header: Python's tarfile takes that for the end
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert archive.getnames() == ["a.txt"]
    outcomes = read(tmp_path / "a.tar", bytes(raw))
    assert texts(outcomes) == {"a.tar!a.txt": "a"} and dropped(outcomes) == [("damaged", "a.tar")]


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04 and no more", b"no archive at all " * 100])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_what_is_no_archive_is_named(tmp_path: Path, raw: bytes, suffix: str) -> None:
    assert [rule for rule, _ in dropped(read(tmp_path / f"a{suffix}", raw))] == ["damaged"]


def test_a_damaged_zip_entry_is_left_out_and_the_rest_read(tmp_path: Path) -> None:
    raw = bytearray(make_zip({"a.txt": b"some words " * 50, "b.txt": b"b"}))
    raw[raw.index(b"a.txt") + 8] ^= 0xFF
    outcomes = read(tmp_path / "a.zip", bytes(raw))
    assert texts(outcomes) == {"a.zip!b.txt": "b"}
    assert dropped(outcomes) == [("damaged", "a.zip!a.txt")]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst", ".tar.xz"])
def test_a_cut_packed_tar_keeps_what_came_before(tmp_path: Path, suffix: str) -> None:
    raw = PACKERS[suffix](make_tar({f"{n}.txt": f"{n * 7919}".encode() * 2000 for n in range(300)}))
    outcomes = read(tmp_path / f"a{suffix}", raw[: len(raw) * 2 // 3])
    assert 0 < len(texts(outcomes)) < 300
    assert dropped(outcomes)[-1][0] == "damaged"
    assert [re.split("[!:]", said)[0] for said in lost(outcomes)] == [f"a{suffix}"] and str(tmp_path) not in str(
        outcomes
    )
    with pytest.raises(DataError, match=rf"a\{suffix}(!\d+.txt)?: its .* is cut off or damaged"):
        list(read_input(next(iter(list_inputs(*source(tmp_path / f"a{suffix}")))), source(tmp_path / f"a{suffix}")[0]))


BAD = {
    "bad.parquet": b"PAR1xxxxPAR1",
    "bad.txt.gz": gzip.compress(b"text " * 99)[:-9],
    "bad.arrow": b"ARROW1",
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_damaged_file_in_an_archive_is_a_bad_row_of_it(
    tmp_path: Path, name: str, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    path = tmp_path / ("a.zip" if make is make_zip else "a.tar")
    good = {f"{n}.txt": b"words" for n in range(120)}
    outcomes = read(path, make({**good, name: BAD[name]}))
    assert len(texts(outcomes)) == 120 and not lost(outcomes)
    [(rule, where)] = dropped(outcomes)
    assert rule == "damaged" and where.startswith(f"{path.name}!{name}")
    more = {f"{n} {name}": BAD[name] for n in range(5)}
    [said] = lost(read(path, make({**good, name: BAD[name], **more})))
    assert said.startswith(f"{path.name}: 6 of its 126 files cannot be used: ") and f"{path.name}!{name}" in said
    assert len(texts(read(path, max_bad_rows=0.5))) == 120
    [said] = lost(read(path, make({name: BAD[name]})))
    assert said.startswith(f"{path.name}: its only file cannot be used")
    config, base, downloads = source(path)
    with pytest.raises(DataError, match=r"its only file cannot be used"):
        list(read_input(list_inputs(config, base, downloads).inputs[0], config))


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_files_of_an_archive_that_are_passed_over_are_none_of_its_files(
    tmp_path: Path, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    """As in a folder: what macOS and exclude: put beside three broken files does not make them half of six."""
    path = tmp_path / ("a.zip" if make is make_zip else "a.tar")
    bad = {f"{n}.parquet": b"PAR1xxxxPAR1" for n in range(3)}
    others = {"__MACOSX/._0.parquet": b"x", ".hidden": b"x", "a.unknown": b"x", "in.zip": b"x", "out.txt": b"x"}
    outcomes = read(path, make({**others, **bad}), exclude=["out.txt"])
    assert lost(outcomes)[0].startswith(f"{path.name}: 3 of its 3 files cannot be used: ")
    assert len(dropped(outcomes)) == 9, "each is said"
    few = read(path, make({**others, **bad, "good.txt": b"words"}), exclude=["out.txt"])
    assert not lost(few) and len(texts(few)) == 1
    assert not lost(read(path, make({"a.unknown": b"x"})))


def test_a_damaged_archive_among_others_is_named_and_alone_stops(tmp_path: Path) -> None:
    (tmp_path / "b.zip").write_bytes(make_zip({"b.txt": b"b"}))
    assert lost(read(tmp_path / "a.zip", make_zip({"a.txt": b"a"})[:-9])) == [
        "a.zip: no zip archive: File is not a zip file"
    ]
    raw = gzip.compress(make_tar({"a.txt": b"a" * 99}))
    assert len(lost(read(tmp_path / "c.tar.gz", raw[:-4]))) == 1


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_rows_before_the_cut_of_an_archive_are_kept(tmp_path: Path, suffix: str) -> None:
    rows = b"".join(b'{"text": "row %d"}\n' % n for n in range(30_000))
    raw = PACKERS[suffix](make_tar({"rows.jsonl": rows}))
    outcomes = read(tmp_path / f"a{suffix}", raw[: len(raw) * 3 // 4])
    assert 0.7 * 30_000 < len(texts(outcomes)) < 0.8 * 30_000 and len(lost(outcomes)) == 1


def test_an_empty_archive_is_said(tmp_path: Path) -> None:
    assert [rule for rule, _ in dropped(read(tmp_path / "a.zip", make_zip({})))] == ["empty"]
    assert [rule for rule, _ in dropped(read(tmp_path / "a.tar", make_tar({})))] == ["empty"]


def test_an_archive_that_changed_since_it_was_listed_is_refused(tmp_path: Path) -> None:
    for name, make in (("a.zip", make_zip), ("a.tar", make_tar)):
        (tmp_path / name).write_bytes(make({"a.txt": b"before"}))
        config = parse(SourceConfig, {"path": name})
        (item,) = list_inputs(config, tmp_path, tmp_path)
        (tmp_path / name).write_bytes(make({"a.txt": b"after!"}))
        with pytest.raises(DataError, match="changed while it was used"):
            list(read_input(item, config))


def test_any_damage_to_an_archive_is_counted_or_harmless(tmp_path: Path) -> None:
    files = {"a.txt": b"words " * 40, "b.jsonl": b'{"text": "x"}\n' * 9}
    for name, raw in (("a.zip", make_zip(files)), ("a.tar", make_tar(files))):
        for at in range(0, min(len(raw), 3000), 7):
            changed = bytearray(raw)
            changed[at] ^= 0x55
            with contextlib.suppress(DataError):  # rows that are no longer JSON
                assert read(tmp_path / name, bytes(changed))
