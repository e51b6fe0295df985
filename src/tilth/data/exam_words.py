"""What is not looked for of the files of `decontaminate.against`, in words: of each source what exam_files.py keeps.

    rows_left_out(sources)  items_replaced(sources)     rows by rule; items that have lost characters
    passed_over(sources)                                files that no listing takes

Apart from exam_files.py, for tables that load nothing to be shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tilth.core.words import left_out, plural, some

PLACE = "data.decontaminate.against"
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


def passed_over(sources: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Files that are not read, in sentences."""
    for one in sources:
        for rule, own in one["passed_over"].items():
            named = f": {left_out(rule, own['first'], own['files'])}" if own["first"] else ""
            yield f"{PLACE}: {one['name']}: {plural(own['files'], 'file')} not read by {rule}{named}"
