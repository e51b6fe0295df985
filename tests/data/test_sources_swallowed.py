"""Bad rows that took in others: what a stray quote or bracket hides counts for as many rows as stood there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tilth.core.config import parse
from tilth.core.errors import DataError
from tilth.data.document import Outcome
from tilth.data.sources import SourceConfig, list_inputs, read_rows, streams
from tilth.data.sources.unusable import Unusable

TABLE = [f"{number},a text" for number in range(2000)]
LIST = [json.dumps({"text": f"row {number} of several words"}) for number in range(2000)]


def kept(folder: Path, name: str, raw: str, **data: Any) -> tuple[int, str]:
    """How many rows a file gives, and what is told of those that it does not."""
    (folder / name).write_text(raw)
    config, unusable = parse(SourceConfig, {"path": name, **data}), Unusable()
    (item,) = list_inputs(config, folder, folder)
    outcomes = [found for found in read_rows(item, config, unusable=unusable) if isinstance(found, Outcome)]
    return sum(outcome.document is not None for outcome in outcomes), "".join(unusable.plain()["first"])


def table(first: int, last: int) -> str:
    """A CSV with a quote that opens in one row and closes in another, which then has a cell too many."""
    rows = TABLE.copy()
    rows[first], rows[last] = f'{first},"an open text', f'{last},said "well, yes" to her'
    return "\n".join(["id,text", *rows])


def lists(first: int, last: int) -> str:
    """A list with a bracket missing in one row, and one too many in another."""
    rows = LIST.copy()
    rows[first], rows[last] = rows[first].removesuffix("}"), rows[last] + "}"
    return f"[{', '.join(rows)}]"


@pytest.mark.parametrize("first", [0, 3, 500])
def test_a_bad_row_counts_for_those_that_it_took_in(tmp_path: Path, first: int) -> None:
    last = first + 999
    with pytest.raises(DataError) as caught:
        kept(tmp_path, "a.csv", table(first, last))
    said = "1000 of 2000 rows cannot be used: 3 cells, the header has 2, in 1,000 lines within quotes"
    assert f"a.csv: {said} (a.csv:{first + 2})" in caught.value.message
    assert "double the quotes" in caught.value.remedy
    raw = lists(first, last)
    size = raw.index(LIST[last]) + len(LIST[last]) + 1 - raw.index(LIST[first][:-1])
    with pytest.raises(DataError) as caught:
        kept(tmp_path, "a.json", raw)
    found = re.search(r"(\d+) of (\d+) rows cannot be used: not JSON: .*, in ([\d,]+) bytes \(a", caught.value.message)
    assert found is not None and found[3] == f"{size:,}" and f"(a.json#row={first + 1})" in caught.value.message
    assert abs(int(found[1]) - 1000) < 60 and int(found[2]) - int(found[1]) == 1000
    assert "bracket" in caught.value.remedy


def test_of_few_the_file_goes_on_and_tells_how_many(tmp_path: Path) -> None:
    rows, told = kept(tmp_path, "a.csv", table(700, 709))
    assert rows == 1990 and "10 of 2000 rows cannot be used: 3 cells, the header has 2, in 10 lines" in told
    rows, told = kept(tmp_path, "a.json", lists(700, 709))
    assert rows == 1990 and "10 of 2000 rows cannot be used: not JSON" in told


def test_the_row_that_took_in_most_is_named_and_not_the_first_that_is_bad(tmp_path: Path) -> None:
    raw = table(1000, 1500).replace("\n7,a text\n", "\n7,a,text\n")
    with pytest.raises(DataError, match=r"502 of 2000 rows .*, in 501 lines within quotes \(a\.csv:1002 and 1 more\)"):
        kept(tmp_path, "a.csv", raw)


def test_a_bad_row_as_tall_as_good_ones_is_one(tmp_path: Path) -> None:
    cells = ['"' + "line\n" * (number % 10) + '"' for number in range(200)]
    rows = [*(f"7,{cell}" for cell in cells), f"7,a,{cells[9]}"]
    count, told = kept(tmp_path, "a.csv", "\n".join(["id,text", *rows, "7,a,b"]))
    assert count == 180 and "2 of 202 rows cannot be used" in told
    long = [json.dumps({"text": "word " * (number % 50)}) for number in range(1000)]
    count, told = kept(tmp_path, "a.json", f"[{', '.join([*long, '{text: ' + 'word ' * 60 + '}'])}]")
    assert count == 980 and "1 of 1001 rows cannot be used: not JSON" in told


def test_what_is_beyond_the_limit_counts_for_those_that_it_took_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LONGEST_LINE", 2000)
    monkeypatch.setattr(streams, "PIECE", 100)
    with pytest.raises(DataError, match=r"1000 of 2000 rows .* are not read, in 1,000 lines within quotes \(a.csv:502"):
        kept(tmp_path, "a.csv", table(500, 1499))
    rows = TABLE.copy()
    rows[500], rows[1499] = '500,"an open text', "1499," + "a" * 3000  # the end of it is a line that is too long itself
    with pytest.raises(DataError, match=r"1000 of 2000 rows .* are not read, in 1,000 lines within quotes \(a.csv:502"):
        kept(tmp_path, "a.csv", "\n".join(["id,text", *rows]))
    with pytest.raises(DataError, match=r"of 2\d\d\d rows cannot be used: \d+ bytes, more than 2000 are not read"):
        kept(tmp_path, "a.json", lists(500, 1499))
    long = f"{TABLE[0]}{'a' * 3000}"
    assert kept(tmp_path, "a.csv", "\n".join(["id,text", long, *TABLE]))[0] == 2000, "one line is one row"


def test_what_is_not_read_behind_a_fault_is_measured_by_the_rows_before_it(tmp_path: Path) -> None:
    raw = f'{{"meta": "{"m" * 1_000_000}", "items": [{", ".join(LIST[:100])} {", ".join(LIST[100:140])}]}}'
    with pytest.raises(DataError, match=r"what follows is not read \(1,\d\d\d bytes, about 4[01] rows of the size of"):
        kept(tmp_path, "a.json", raw, records="items")
    raw = f"[{', '.join(LIST[:1990])} {', '.join(LIST[1990:])}]"
    rows, told = kept(tmp_path, "a.json", raw)
    assert rows == 1990 and "10 of 2000 rows cannot be used" in told


TAB, ESCAPE = "write a tab or line end within a text as `\\t` or `\\n`", "write a backslash within a text as `\\\\`"


@pytest.mark.parametrize(
    ("row", "remedy"),
    [
        ('{"text": "' + "a tab: \t " * 500 + '"}', TAB),
        ('{"text": "' + "C:\\Users " * 500 + '"}', ESCAPE),
        ('{"id": 1, "messages": [' + ", ".join(['{"text": "a tab: \t"}'] * 500) + "]}", TAB),
        ('"' + "a tab: \t " * 500 + '"', TAB),
    ],
    ids=["tab", "escape", "chat", "text"],
)
def test_a_long_row_in_which_no_other_begins_is_one(tmp_path: Path, row: str, remedy: str) -> None:
    raw = f"[{', '.join([*LIST[:30], row, *LIST[30:60]])}]"
    rows, told = kept(tmp_path, "a.json", raw)
    assert rows == 60 and "1 of 61 rows cannot be used: not JSON: Invalid" in told
    with pytest.raises(DataError) as caught:
        kept(tmp_path, "a.json", raw, max_bad_rows=0)
    assert caught.value.remedy.startswith(remedy) and "bracket" not in caught.value.remedy


def test_a_large_row_counts_for_no_more_than_begin_in_it(tmp_path: Path) -> None:
    rows = LIST[:200]
    rows[100] = rows[100].removesuffix("}")
    rows[101] = rows[101].replace("words", "words " * 1000) + "}"
    count, told = kept(tmp_path, "a.json", f"[{', '.join(rows)}]")
    assert count == 198 and "2 of 200 rows cannot be used: not JSON" in told


@pytest.mark.parametrize(
    ("first", "last", "told"), [(1000, 1090, True), (1000, 1009, True), (1000, 1008, False), (150, 159, False)]
)
def test_a_row_of_ten_lines_is_named_where_hundreds_before_had_one(
    tmp_path: Path, first: int, last: int, told: bool
) -> None:
    rows = TABLE.copy()
    rows[first], rows[last] = f'{first},"row', 'x"'
    count, said = kept(tmp_path, "a.csv", "\n".join(["id,text", *rows]))
    assert count == 2000 - (last - first)
    assert bool(said) == told
    assert not told or f"takes in {last - first + 1} lines within quotes, the others one" in said
    assert not told or f"(a.csv:{first + 2})" in said
    rows[300] = '300,"a\nb"'  # texts of several lines are usual here
    assert kept(tmp_path, "b.csv", "\n".join(["id,text", *rows])) == (count, "")
