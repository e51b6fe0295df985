"""What the table of leaks says."""

from __future__ import annotations

from tests.cli.test_tables import FACTS, rendered, row
from tilth.cli.dataset_table import dataset_table
from tilth.cli.leak_table import leak_table
from tilth.data.leaks.planting import PLANTED, Item, measure


def facts(found: int, **more: object) -> dict[str, object]:
    """Those of a measurement in which so many of ten items are found."""
    items = [Item(f"{n:032x}", f"item {n} of some words") for n in range(10)]
    measured = measure(lambda texts: [f"item {n}" in text.lower() for n, text in enumerate(texts)], items, ["a b"])
    caught = {kind: [10, found] for kind in measured["caught"]}
    return {**measured, "caught": caught, "items": 1234, "too_short": 56, **more}


def test_every_kind_is_shown_for_both() -> None:
    both = {"evaluation": facts(9, left_out={"read/no_field": 2}), "held_out": facts(7)}
    table = leak_table(both)
    assert table is not None
    lines = rendered(table)
    assert sum("9 of 10" in line and "7 of 10" in line for line in lines) == len(PLANTED)
    assert row(lines, "re-wrapped") == ["9", "of", "10", "7", "of", "10"]
    assert "1,234 evaluation items looked for; 56 too short to be looked for" in lines
    assert "rows of evaluation files left out: read/no_field 2" in lines
    assert row(lines, "documents with one before planting") == ["0", "of", "1", "0", "of", "1"]
    told = " ".join(line.strip() for line in lines[lines.index("rows of evaluation files left out: read/no_field 2") :])
    assert "with one before: a leak that is real, or an error" in told


def test_an_exam_of_which_much_is_too_short_is_told() -> None:
    def told(**more: int) -> str:
        table = leak_table({"evaluation": facts(9, **more)})
        return " ".join(rendered(table) if table is not None else [])

    assert "22 evaluation items looked for; 8 too short to be looked for, of 30 (data.decontaminate" in told(
        items=22, too_short=8
    )
    assert "data.decontaminate.shortest" not in told(items=90, too_short=10)


def test_why_items_are_missed_is_said_where_it_is_known() -> None:
    def told(found: int, **more: object) -> str:
        table = leak_table({"evaluation": facts(9), "held_out": facts(found, **more)})
        return " ".join(" ".join(rendered(table) if table is not None else []).split())

    clause = "held-out documents: 812 runs of words that many training documents share (data.decontaminate.common)"
    assert clause in told(7, common=812)
    assert "data.decontaminate.common" not in told(10, common=812) + told(7, common=0) + told(7)


def test_of_a_few_items_nothing_is_measured() -> None:
    table = leak_table({"held_out": facts(1, items=1, too_short=0)})
    assert table is not None and rendered(table) == [
        "leaks",
        "1 held-out document looked for",
        "(fewer than 10: how well such text is found in training text is not measured)",
    ]


def test_where_nothing_could_be_planted_one_line_says_so() -> None:
    caught = {kind: [0, 0] for kind in PLANTED}
    table = leak_table({"held_out": {**facts(0, items=12, too_short=0), "caught": caught}})
    lines = rendered(table) if table is not None else []
    assert lines[2].startswith("(none could be planted: how well") and "0 of 0" not in "".join(lines)


def test_the_table_stands_under_that_of_the_splits_where_something_was_looked_for() -> None:
    lines = rendered(dataset_table({**FACTS, "decontamination": {"held_out": facts(10)}}))
    assert lines.index("leaks") > lines.index("splits")
    assert row(lines, "as they are") == ["10", "of", "10"]
    assert "leaks" not in rendered(dataset_table(FACTS))
    assert "leaks" not in rendered(dataset_table({**FACTS, "decontamination": {}}))
