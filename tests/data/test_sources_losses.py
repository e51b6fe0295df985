"""How many lost files a source may have, by its limit."""

from __future__ import annotations

import pytest

from tilth.core.errors import DataError
from tilth.data.sources import SourceConfig
from tilth.data.sources.inputs import Lost
from tilth.data.sources.losses import judge

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
