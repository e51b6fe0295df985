"""What is not looked for of the files of `decontaminate.against`, in words: of each source what exam_files.py keeps.

    rows_left_out(sources)  items_replaced(sources)     rows by rule; items that have lost characters
    without_items(sources)                              sources, and files, in which nothing is there to be looked for
    passed_over(sources)                                files that no listing takes

Apart from exam_files.py, for tables that load nothing to be shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tilth.core.words import left_out, plural, some

PLACE = "data.decontaminate.against"
EMPTY = "read/empty"
NAMED = 3
"""Files, rows and items, of each rule."""
KEEPS = "an item is not found by the words that it stands in"


def rows_left_out(sources: Sequence[Mapping[str, Any]]) -> str:
    """How many rows each rule left out, and the first of them."""
    numbers, named = Counter[str](), dict[str, list[str]]()
    for one in sources:
        numbers.update(one["left_out"])
        for rule, names in one["named"].items():
            named[rule] = [*named.get(rule, ()), *names][:NAMED]
    return ", ".join(f"{rule} {n:,} ({some(named.get(rule, []), n)})" for rule, n in sorted(numbers.items()))


def items_replaced(sources: Sequence[Mapping[str, Any]]) -> str:
    """How many items have lost characters, in words; "": none."""
    number = sum(one["replaced"]["items"] for one in sources)
    first = [name for one in sources for name in one["replaced"]["first"]][:NAMED]
    hold = "holds" if number == 1 else "hold"
    told = f"{plural(number, 'item')} {hold} U+FFFD in the place of characters that were lost ({some(first, number)})"
    return f"{told}: {KEEPS}" if number else ""


def reasons(too_short: int, left_out: Mapping[str, int]) -> str:
    """What became of rows that are not looked for, by rule."""
    short = [f"{too_short:,} too short"] if too_short else []
    return ", ".join([*short, *(f"{rule} {number:,}" for rule, number in sorted(left_out.items()))])


def without_items(sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Sources of which no item is looked for, and files in the others that give none, in sentences."""
    for one in sources:
        files = one.get("nothing", {"files": 0})  # datasets of before say nothing of them
        if one.get("items", 1) == 0:
            why = reasons(one["too_short"], one["left_out"])
            yield f"{one['name']}: no item is looked for: {why or 'nothing is there'}"
        elif files["files"]:
            give = "gives" if files["files"] == 1 else "give"
            named = some(files["first"], files["files"])
            yield f"{one['name']}: {plural(files['files'], 'file')} {give} no item: {named}"


def passed_over(sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Files that are not read, in sentences."""
    for one in sources:
        for rule, own in one["passed_over"].items():
            named = f": {left_out(rule, own['first'], own['files'])}" if own["first"] else ""
            yield f"{PLACE}: {one['name']}: {plural(own['files'], 'file')} not read by {rule}{named}"
