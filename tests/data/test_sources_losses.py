"""How many lost files a source may have, by its limit."""

from __future__ import annotations

import pytest

from tilth.core.errors import DataError
from tilth.data.sources import SourceConfig
from tilth.data.sources.inputs import Lost
from tilth.data.sources.losses import judge, nothing_left, without_limit

LOST = Lost("a.json#row=41: cut off", "get it again; `max_bad_rows: 1` goes on", "a.json")
PACKED = Lost("a.gz: cut off", "", "texts/a.gz")


def test_the_only_file_of_a_source_stops_the_run_unless_all_may_be_lost() -> None:
    with pytest.raises(DataError, match=r"^a\.json#row=41: cut off") as raised:
        judge(SourceConfig(path="a.json"), 1, 1, [LOST])
    assert raised.value.remedy == LOST.remedy
    told = judge(SourceConfig(path="a.json", max_bad_rows=1), 1, 1, [LOST])
    assert told == "a.json: its only file cannot be used, or not whole: a.json#row=41: cut off"


@pytest.mark.parametrize(("limit", "whole", "stops"), [(0.5, False, False), (0.5, True, True), (1, True, False)])
def test_where_each_file_must_be_whole_no_few_may_be_lost(limit: float, stops: bool, *, whole: bool) -> None:
    source = SourceConfig(path="texts", max_bad_rows=limit)
    if not stops:
        assert "1 of its 9 files" in (judge(source, 9, 1, [PACKED], whole=whole) or "")
        return
    with pytest.raises(DataError) as raised:
        judge(source, 9, 1, [PACKED], whole=whole)
    assert raised.value.remedy == "get these files again, take them away, or set `max_bad_rows: 1`"


@pytest.mark.parametrize(
    ("document", "locator", "kept", "left"),
    [
        ("file", "texts/a.txt.gz", "with `document: paragraph` goes on with what came before the damage", "paragraph"),
        ("paragraph", "texts/a.txt.gz", "goes on with what can be read of them, if anything", "line"),
        ("line", "texts/a.md.xz", "goes on with what can be read of them, if anything", ""),
        ("file", "texts/a.jsonl.gz", "goes on with what can be read of them, if anything", ""),
    ],
)
def test_what_goes_on_where_all_files_are_damaged_leaves_something(
    document: str, locator: str, kept: str, left: str
) -> None:
    source, lost = SourceConfig(path="texts", document=document), [Lost(f"{locator}: cut off", "", locator)]
    again = "get these files again, or take them away"
    with pytest.raises(DataError) as raised:
        judge(source, 1, 1, lost)
    assert raised.value.remedy == f"{again}; `max_bad_rows: 1` {kept}" and without_limit(raised.value.remedy) == again
    said = f"{again}; `document: {left}` keeps what came before the damage" if left else again
    assert nothing_left(source, lost) == said


def test_where_no_document_is_left_a_lost_file_says_what_to_do() -> None:
    known = Lost("a.csv: it has no column text", "write `field: body`; `max_bad_rows: 1` counts such files", "a.csv")
    assert nothing_left(SourceConfig(path="."), [PACKED, known]) == "write `field: body`"


@pytest.mark.parametrize("name", ["a.html.gz", "a.pdf", "a.zip!b.htm"])
def test_no_limit_is_named_where_nothing_can_be_left(name: str) -> None:
    lost = Lost(f"texts/{name}: cut off", "", f"texts/{name}")
    with pytest.raises(DataError) as raised:
        judge(SourceConfig(path="texts"), 1, 1, [lost])
    assert "get these files again, or take them away" in raised.value.remedy
    assert "max_bad_rows" not in raised.value.remedy
    with pytest.raises(DataError, match="2 of its 2 files") as raised:
        judge(SourceConfig(path="texts"), 2, 2, [lost, PACKED._replace(locator="texts/a.jsonl.gz")])
    assert "`max_bad_rows: 1` goes on" in raised.value.remedy
