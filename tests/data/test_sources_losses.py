"""How many lost files a source may have, by its limit."""

from __future__ import annotations

import pytest

from tilth.core.errors import DataError
from tilth.data.sources import SourceConfig
from tilth.data.sources.losses import judge

LOST = [("a.json#row=41: cut off", "get it again; `max_bad_rows: 1` goes on")]


def test_the_only_file_of_a_source_stops_the_run_unless_all_may_be_lost() -> None:
    with pytest.raises(DataError, match=r"^a\.json#row=41: cut off") as raised:
        judge(SourceConfig(path="a.json"), 1, 1, LOST)
    assert raised.value.remedy == LOST[0][1]
    told = judge(SourceConfig(path="a.json", max_bad_rows=1), 1, 1, LOST)
    assert told == "a.json: its only file cannot be used, or not whole: a.json#row=41: cut off"
