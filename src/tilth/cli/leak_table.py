"""What `tilth prepare` says of leaks: how many items were looked for, and how well planted ones are found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from tilth.cli.tables import bare_table, printable
from tilth.data.leaks.exam_words import PLACE, items_replaced, passed_over, rows_left_out, without_items
from tilth.jobs.pages.leak_words import ALARMS, MEANING, NAMES, PLANTED, why_missed

_FEW = 10  # items; what is found of fewer is no measure
_MANY_SHORT = 0.1
_UNMEASURED = f"(fewer than {_FEW}: how well such text is found in training text is not measured)"


def leak_table(facts: Mapping[str, Any]) -> RenderableType | None:
    """Shares of planted items that were found; `facts` are those of the manifest's `decontamination`."""
    columns = [(name, facts[key]) for key, name in NAMES.items() if key in facts]
    if not columns:
        return None
    if all(own["items"] < _FEW for _, own in columns):
        return Text("\n").join([Text("leaks", "bold"), *map(Text, _remarks(columns)), Text(_UNMEASURED)])
    if not any(planted for _, own in columns for planted, _ in own["caught"].values()):
        nowhere = Text("(none could be planted: how well such text is found in training text is not measured)")
        return Text("\n").join([Text("leaks", "bold"), *map(Text, _remarks(columns)), nowhere])
    table = bare_table("leaks")
    table.add_column("planted items that were found", header_style="dim")
    for name, _ in columns:
        table.add_column(name, justify="right", header_style="dim")
    for group, words in (("caught", PLANTED), ("false_alarms", ALARMS)):
        for kind, said in words.items():
            if any(kind not in own[group] for _, own in columns):
                continue  # a dataset from before there was this kind
            cells = [own[group][kind] for _, own in columns]
            table.add_row(said, *(f"{found:,} of {planted:,}" for planted, found in cells))
    missed = [f"{name}: {why}" for name, own in columns if (why := why_missed(own))]
    table.notes = [*_remarks(columns), *missed, MEANING]
    return table


def _remarks(columns: list[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    for name, own in columns:
        short = f"; {own['too_short']:,} too short to be looked for" if own["too_short"] else ""
        if name == NAMES["evaluation"] and own["too_short"] > _MANY_SHORT * (own["items"] + own["too_short"]):
            short += f", of {own['items'] + own['too_short']:,} (data.decontaminate.shortest says what is)"
        yield f"{own['items']:,} {name if own['items'] != 1 else name.removesuffix('s')} looked for{short}"
        if left_out := own.get("left_out"):
            numbers = ", ".join(f"{rule} {n:,}" for rule, n in left_out.items())
            named = rows_left_out(own.get("sources", ()))  # datasets of before name none
            yield f"rows of evaluation files left out: {printable(named or numbers)}"
        if replaced := items_replaced(own.get("sources", ())):
            yield printable(replaced)
        yield from (printable(f"{PLACE}: {said}") for said in without_items(own.get("sources", ())))
        yield from map(printable, passed_over(own.get("sources", ())))
