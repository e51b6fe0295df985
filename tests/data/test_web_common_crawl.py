"""Files and single records from a server that gives ranges, cut off and lied to."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.web_site import Handler, Site, serving
from tilth.core.config import parse
from tilth.core.errors import DataError, IntegrityError, RecipeError
from tilth.core.progress import Board
from tilth.data.config import DataConfig
from tilth.data.plans.pipeline import prepare
from tilth.data.plans.workshop import Workshop
from tilth.data.sources import Listing, SourceConfig, list_inputs, read_input, url
from tilth.data.sources.web import common_crawl, courier
from tilth.data.sources.web.warc import make_record
from tilth.tokenizer import TokenizerConfig

DATE = "2026-01-31T12:00:00Z"
MEMBERS = [
    make_record("conversion", f"http://host/{n}", DATE, f"text number {n}".encode(), "text/plain")[1] for n in range(6)
]
STARTS = [sum(map(len, MEMBERS[:n])) for n in range(6)]
WET = b"".join(MEMBERS)


def ranges(body: bytes, *, honest: bool = True) -> Any:
    def answer(handler: Handler) -> None:
        asked = handler.headers.get("Range", "")
        if not asked or not honest:
            return handler.answer(200, {}, body)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = body[int(first) : int(last) + 1 if last else None]
        if not part:
            return handler.answer(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
        where = {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}", "ETag": '"1"'}
        return handler.answer(206, where, part)

    return answer


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(courier, "BACKOFF", 0.01)
    monkeypatch.setattr(url, "BACKOFF", 0.01)
    with serving(Site()) as started:
        started.pages["/crawl/a.warc.wet.gz"] = ranges(WET)
        yield started


def listing(site: Site, folder: Path, **options: Any) -> Listing:
    config = parse(SourceConfig, {"name": "cc", "common_crawl": {"base": site.url, **options}})
    return list_inputs(config, folder, folder / "downloads")


def texts(found: Listing) -> list[str]:
    outcomes = [one for item in found for one in read_input(item, SourceConfig(path="x"))]
    return [one.document.text for one in outcomes if one.document]


def index(folder: Path, rows: list[dict[str, Any]]) -> str:
    (folder / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "index.jsonl"


def row(number: int, **other: Any) -> dict[str, Any]:
    return {"warc": "crawl/a.warc.wet.gz", "offset": STARTS[number], "length": len(MEMBERS[number]), **other}


def test_whole_files_come_once_and_are_known_again(site: Site, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "wet.paths.gz", "wt") as file:
        file.write("crawl/a.warc.wet.gz\ncrawl/never-asked-for.wet.gz\n")
    found = listing(site, tmp_path, paths="wet.paths.gz", max_files=1)
    assert texts(found) == [f"text number {n}" for n in range(6)]
    assert [item.locator for item in found] == ["crawl/a.warc.wet.gz"]
    assert listing(site, tmp_path, paths=["crawl/a.warc.wet.gz"]) == found
    assert site.seen == ["/crawl/a.warc.wet.gz"]
    path = found.inputs[0].path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="is not what came from"):
        listing(site, tmp_path, paths=["crawl/a.warc.wet.gz"])


def test_a_file_that_breaks_off_goes_on_where_it_was(site: Site, tmp_path: Path) -> None:
    def torn(handler: Handler) -> None:
        site.pages["/crawl/a.warc.wet.gz"] = ranges(WET)
        handler.answer(200, {"Content-Length": str(len(WET)), "ETag": '"1"'}, WET[:500])

    site.pages["/crawl/a.warc.wet.gz"] = torn
    assert len(texts(listing(site, tmp_path, paths=["crawl/a.warc.wet.gz"]))) == 6
    assert [headers.get("Range") for headers in site.headers] == [None, "bytes=500-"]


def test_a_file_that_is_not_there_is_named_and_the_others_are_read(site: Site, tmp_path: Path) -> None:
    (tmp_path / "wet.paths").write_text("crawl/a.warc.wet.gz\ncrawl/gone.wet.gz\n")
    source = {"name": "cc", "common_crawl": {"base": site.url, "paths": "wet.paths"}}
    config = parse(DataConfig, {"sources": [source], "clean": "none", "split": {"validation": 0}}, "data")
    told: list[str] = []
    shop = Workshop(tmp_path / "work", say=told.append)
    dataset = prepare(config, parse(TokenizerConfig, {"kind": "byte"}), "cc", tmp_path, shop)
    assert dataset.facts["documents"] == 6 and dataset.facts["rules"]["dropped"] == {"fetch/status": 1}
    assert [said for said in told if "gone.wet.gz" in said] == [
        "cc: 1 of its 2 files cannot be used, or not whole: crawl/gone.wet.gz: the server answers 404 Not Found; "
        "take out of `common_crawl.paths` what the server does not have"
    ]


@pytest.mark.parametrize("options", [{}, {"max_bad_rows": 1}])
def test_too_many_that_are_not_there_stop_the_run(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    gone = [f"crawl/gone-{n}.wet.gz" for n in range(12)]
    few = {"name": "cc", "common_crawl": {"base": site.url, "paths": [*gone[:10], "crawl/a.warc.wet.gz"]}, **options}
    if options:
        assert len(list_inputs(parse(SourceConfig, few), tmp_path, tmp_path).lost) == 10
    else:
        with pytest.raises(
            DataError, match=r"cc: 10 of its 11 files cannot be used, or not whole: the first of them: "
        ):
            list_inputs(parse(SourceConfig, few), tmp_path, tmp_path)
    monkeypatch.setattr(common_crawl, "JUDGED_FROM", 5)
    none = {"name": "cc", "common_crawl": {"base": site.url, "paths": [*gone, "crawl/a.warc.wet.gz"]}, **options}
    asked = len(site.seen)
    with pytest.raises(DataError, match=r"gone-0\.wet\.gz: the server answers 404 .*so are the first 5 files"):
        list_inputs(parse(SourceConfig, none), tmp_path, tmp_path)
    assert len(site.seen) - asked == 5


def test_single_records_come_by_ranges_and_what_fails_is_named(site: Site, tmp_path: Path) -> None:
    site.pages["/whole.warc.gz"] = ranges(WET, honest=False)
    rows = [
        row(4),
        row(1),
        row(2, offset=STARTS[2] + 1),
        {"filename": "gone.warc.gz", "offset": "0", "length": "10"},
        row(5, length=10_000),
        row(0, warc="whole.warc.gz"),
        row(1),
    ]
    found = listing(site, tmp_path, index=index(tmp_path, rows))
    assert texts(found) == ["text number 4", "text number 1"]
    said = {verdict.rule: (verdict.stage, verdict.value) for verdict in found.skipped}
    assert said["no_record"] == ("fetch", "") and said["bad_range"] == ("fetch", str(len(MEMBERS[5])))
    assert sorted(v.value for v in found.skipped if v.rule == "status") == ["200", "404"]
    asked = len(site.seen)
    assert listing(site, tmp_path, index="index.jsonl") == found and len(site.seen) == asked == 6


def test_records_go_on_after_the_server_was_gone(site: Site, tmp_path: Path) -> None:
    def gone(handler: Handler) -> None:
        pass

    working = site.pages["/crawl/a.warc.wet.gz"]
    for number in range(6):
        site.pages[f"/{number}.warc.gz"] = gone if number == 3 else ranges(WET)
    name = index(tmp_path, [row(number, warc=f"{number}.warc.gz") for number in range(6)])
    with pytest.raises(DataError, match=r"cannot fetch 3\.warc\.gz.*unreachable"):
        listing(site, tmp_path, index=name)
    site.pages["/3.warc.gz"] = working
    assert texts(listing(site, tmp_path, index=name)) == [f"text number {n}" for n in range(6)]
    assert [site.asked(f"/{number}.warc.gz") for number in range(6)] == [1, 1, 1, courier.ATTEMPTS + 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"paths": ["../etc/a.warc.gz"], "base": "http://127.0.0.1:9/crawl"}, DataError, "leads out of"),
        ({"paths": ["a.zip"]}, DataError, "is no WARC or WET file"),
        ({"paths": ["missing.warc.gz"]}, DataError, "the server answers 404"),
        ({"paths": "not-there.paths"}, DataError, "cannot read the list"),
        ({"index": "index.jsonl"}, DataError, r"index.jsonl:2: no record of an index: KeyError 'filename'"),
        ({}, RecipeError, "has one of paths and index"),
        ({"index": "index.jsonl", "max_files": 2}, RecipeError, "max_files is for paths"),
        ({"paths": ["a.warc"], "base": "file:///etc"}, RecipeError, "is not an http or https address"),
    ],
)
def test_what_cannot_be_is_refused(
    site: Site, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    index(tmp_path, [row(0), {"offset": 1}])
    with pytest.raises(error, match=message):
        listing(site, tmp_path, **options)


def test_files_and_records_are_counted_with_their_bytes(site: Site, tmp_path: Path) -> None:
    board = Board()
    with board.watching(tmp_path / "work"):
        listing(site, tmp_path, paths=["crawl/a.warc.wet.gz"])
        listing(site, tmp_path, index=index(tmp_path, [row(2), row(0)]))
    files, records = board.meters
    assert (files.unit, files.done, files.total, files.size) == ("file", 1, 1, len(WET))
    assert (records.done, records.total, records.size) == (2, 2, len(MEMBERS[0]) + len(MEMBERS[2]))
