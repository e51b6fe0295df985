"""What `tilth trace` and `tilth report` print: for people, on standard output.

    print_documents(traced)     the way of each document
    print_step(traced)          the documents of a step
    print_report(figures)       what a dataset is made of

Locators and texts come from outside: they go in as `Text`, printable, never as markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tilth.cli.leak_table import leak_table
from tilth.cli.screen import show
from tilth.cli.tables import BareTable, bare_grid, bare_table, count, percent, plural, printable, size
from tilth.jobs.pages.data_page import STEP_NAMES, UNKNOWN, differences

ROWS = 20
TEXT_CHARACTERS = 400
_COUNTED = {
    "newlines": "line end",
    "controls": "character",
    "unicode": "character",
    "repair": "character",
    "trailing_space": "character",
    "strip": "character",
    "min_length": "character",
    "blank_lines": "line",
    "repeated_lines": "line",
    "cut": "piece",
    "cut/within_sentence": "cut",
    "cut/within_word": "cut",
    "repeated_paragraphs": "paragraph",
    "spelling": "word",
    "invalid_utf8": "character",
    "nul": "character",
    "surrogate": "character",
}
"""Rules, and what the number in their verdicts counts; of others it is a figure of their own."""
_MARKS = {"gone": ("[-", "-]", "red"), "came": ("{+", "+}", "green"), "cut": ("", "", "dim")}
"""Around what went and what came, as wdiff has it: without colours one must see it too."""


def print_documents(traced: Sequence[Mapping[str, Any]]) -> None:
    """Everything that is known of each document."""
    for number, one in enumerate(traced, 1):
        if len(traced) > 1:
            before = [Text()] if number > 1 else []
            show(Group(*before, Text(f"document {number} of {len(traced)}", style="bold")))
        _print_document(one)


def _print_document(traced: Mapping[str, Any]) -> None:
    parts: list[RenderableType] = [_about(traced), Text(), _verdicts(traced), *_duplicates(traced["duplicates"])]
    if traced["pieces"]:
        parts += [Text(), _pieces(traced["pieces"])]
    parts += [Text(), _splits(traced["splits"])]
    if traced["run"] is not None:
        parts += [Text(), _seen(traced["run"], traced["splits"])]
    show(Group(*parts))


def _about(traced: Mapping[str, Any]) -> Table:
    document = traced["document"]
    lines = {
        "document": document["locator"] or "unknown: the ledger knows its id alone",
        "id": document["doc_id"],
        "source": document["source"],
        "license": document["license"],
        "known of it": document["meta"] if document["meta"] not in (None, "{}") else None,
        "size": document["characters"] and f"{count(document['characters'])} characters after cleaning",
        "part of": " > ".join(whole["locator"] or whole["doc_id"] for whole in traced["part_of"]),
        "outcome": traced["fate"],
    }
    table = bare_grid()
    for label, value in lines.items():
        if value:
            table.add_row(label, Text(printable(str(value)), style="bold" if label == "outcome" else ""))
    return table


def _verdicts(traced: Mapping[str, Any]) -> RenderableType:
    verdicts = traced["verdicts"]
    if not verdicts:
        return Text("No rule changed or dropped it: it passed as it was read.")
    lines: list[RenderableType] = [Text("what the stages did, in order", style="bold")]
    for verdict in verdicts:
        style = {"dropped": "red", "changed": "yellow"}.get(verdict["verdict"], "green")
        head = Text.assemble("  ", (verdict["verdict"], style), f"  {printable(verdict['stage'])}/")
        head.append(printable(verdict["rule"]))
        head.append(f"  {_figure(verdict)}" if verdict["value"] else "", style="dim")
        if verdict["stage"] != "clean" and verdict["detail"]:
            head.append(f"  {printable(verdict['detail'])}", style="dim")
        lines.append(head)
        if verdict.get("before") is not None:
            lines.append(_texts(verdict))
        if verdict["rule"] == "cut" and verdict.get("piece"):
            lines.append(Text(f"      {_piece(verdict)}"))
    if traced["texts_from"] == "examples":
        missed = printable(traced["texts_missed"])
        lines.append(Text(f"  ({missed}: texts are shown where they were kept as examples)", "dim"))
    return Group(*lines)


def _figure(verdict: Mapping[str, Any]) -> str:
    """The size of a change, or the figure that broke a rule, and what it is of."""
    rule, value = str(verdict["rule"]), str(verdict["value"])
    if noun := _COUNTED.get(rule):
        return plural(int(value), noun) if value.isdigit() else printable(value)
    if rule == "near_duplicate":
        return f"similarity {printable(value)}"
    return f"figure {printable(value)}" if verdict["stage"] == "clean" else printable(value)


def _piece(verdict: Mapping[str, Any]) -> str:
    """Which characters of the document that was cut up this one is."""
    first, end = verdict["piece"]
    of = f" of {count(verdict['characters'])}" if verdict.get("characters") else ""
    return f"this piece is characters {count(first)} to {count(end)}{of}"


def _texts(verdict: Mapping[str, Any]) -> Table:
    """What went and what came; of a document that was dropped its beginning."""
    text = Text()
    if verdict["after"] is None:
        text.append(printable(verdict["before"][:TEXT_CHARACTERS], lines=True))
        if (left := verdict["characters"] - TEXT_CHARACTERS) > 0:
            text.append(f" … {plural(left, 'character')} more", style="dim")
    else:
        for span in differences(verdict["before"], verdict["after"], 2 * TEXT_CHARACTERS):
            shown = f" … {plural(int(span.text), 'character')} … " if span.kind == "cut" else span.text
            before, after, style = _MARKS.get(span.kind, ("", "", ""))
            text.append(f"{before}{printable(shown, lines=True)}{after}", style=style)
    table = BareTable(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("     ", text)
    return table


def _duplicates(duplicates: Mapping[str, Any]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if (went := duplicates["went_for"]) is not None:
        parts += [Text(), Text.assemble(("it went for  ", "bold"), _copy(went))]
    if stays := duplicates["stays_for"]:
        parts += [Text(), Text(f"it stays for {plural(len(stays), 'other')}", style="bold")]
        parts += [Text.assemble("  ", _copy(row)) for row in stays[:ROWS]]
        parts += [Text(f"  and {count(len(stays) - ROWS)} more", style="dim")] if len(stays) > ROWS else []
    return parts


def _copy(row: Mapping[str, Any]) -> Text:
    how = "the same to the letter" if row["similarity"] is None else f"similarity {row['similarity']:.3f}"
    return Text.assemble(printable(row["locator"] or row["doc_id"]), (f"  {how}", "dim"))


def _pieces(pieces: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = bare_table("its pieces", ("locator", "left"), ("outcome", "left"))
    for piece in pieces[:ROWS]:
        table.add_row(Text(printable(piece["locator"])), Text(printable(piece["fate"])))
    return _with_rest(table, len(pieces), "piece")


def _splits(splits: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not splits:
        return Text("It is in no split: no training sees it.")
    table = bare_table(
        "where its tokens are", ("shard", "left"), ("tokens", "right"), ("from", "right"), ("to", "right")
    )
    for span in splits[:ROWS]:
        first, stop = span["in_shard"]
        table.add_row(Text(span["shard"]), count(span["tokens"]), count(first), count(stop))
    return _with_rest(table, len(splits), "piece")


def _seen(run: Mapping[str, Any], splits: Sequence[Mapping[str, Any]]) -> RenderableType:
    place = printable(run["run"])
    if not any(span["split"] == "train" for span in splits):
        return Text(f"No step of {place} saw it: it is not in the training split.")
    if not run["steps"]:
        return Text(f"No step of {place} has seen it so far ({plural(run['steps_done'], 'step')} done).")
    own = sum(span["tokens"] for span in splits if span["split"] == "train")
    title = f"{plural(len(run['steps']), 'step')} of {place} saw it, {run['tokens'] / own:.2f} times in all"
    columns = (("step", "right"), ("epoch", "right"), ("tokens", "right"), ("windows (sample: tokens)", "left"))
    table = bare_table(title, *columns)
    for step in run["steps"][:ROWS]:
        epochs = sorted({window["epoch"] for window in step["windows"]})
        windows = ", ".join(f"{count(window['sample'])}: {count(window['tokens'])}" for window in step["windows"][:4])
        more = f" and {len(step['windows']) - 4} more" if len(step["windows"]) > 4 else ""
        table.add_row(count(step["step"]), ", ".join(map(str, epochs)), count(step["tokens"]), windows + more)
    return _with_rest(table, len(run["steps"]), "step")


def print_step(traced: Mapping[str, Any]) -> None:
    """The documents of a step."""
    first, last = traced["samples"]
    epochs = " and ".join(str(epoch) for epoch in traced["epochs"])
    title = (
        f"step {count(traced['step'])} of {printable(traced['run'])}: samples {count(first)} to {count(last)}, epoch "
        f"{epochs}, loss {traced['loss']:.4f}"
    )
    table = bare_table(title, ("document", "left"), ("source", "left"), ("tokens", "right"), ("share", "right"))
    documents = traced["documents"]
    for row in documents[:ROWS]:
        where = (Text(printable(str(row[key]))) for key in ("locator", "source"))
        table.add_row(*where, count(row["tokens"]), percent(row["share"]))
    show(_with_rest(table, len(documents), "document"))


def print_report(figures: Mapping[str, Any]) -> None:
    """What a dataset is made of."""
    parts = [Text(printable(figures["folder"]), "bold"), _flow(figures["flow"]), _rules(figures["rules"])]
    parts += [_sources(figures["sources"])]
    parts += [_groups("languages", figures["languages"])] if set(figures["languages"]) - {UNKNOWN} else []
    parts += [_groups("source code", figures["code"])] if figures["code"] else []
    parts += [_splits_of(figures["splits"]), _lengths(figures["lengths"]), _clusters(figures["clusters"])]
    parts += [table] if (table := leak_table(figures["leaks"])) else []
    show(Group(*(line for part in parts for line in (part, Text()))))


def _flow(flow: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What is left after each step that took or changed something; the others are named."""
    columns = (("step", "left"), ("documents", "right"), ("text", "right"), ("", "right"))
    table = bare_table("left after each step", *columns)
    before, idle = flow[0], []
    for number, step in enumerate(flow):
        name = printable(STEP_NAMES.get(step["name"], step["name"]))
        gone = before["documents"] - step["documents"]
        if number and not gone and before["text_bytes"] == step["text_bytes"]:
            idle.append(name)
            continue
        took = "" if not gone else f"{-gone:+,}"
        table.add_row(Text(name), count(step["documents"]), size(step["text_bytes"]), Text(took, "red"))
        before = step
    table.notes = [f"as much as before after: {', '.join(idle)}"] if idle else []
    return table


def _rules(rules: Sequence[Mapping[str, Any]]) -> RenderableType:
    if not rules:
        return Text("No rule changed or dropped anything.")
    right = ("changed", "dropped", "text dropped", "cut out")
    table = bare_table("what the rules did", ("rule", "left"), *((name, "right") for name in right))
    for rule in rules:
        sizes = (size(rule[key]) if rule[key] else "" for key in ("dropped_bytes", "cut_bytes"))
        numbers = (count(rule[key]) if rule[key] else "" for key in ("changed", "dropped"))
        table.add_row(Text(printable(f"{rule['stage']}/{rule['rule']}")), *numbers, *sizes)
    return table


def _sources(sources: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    columns = (("source", "left"), ("read", "right"), ("text read", "right"), ("kept", "right"), ("tokens", "right"))
    table = bare_table("sources", *columns)
    for name, own in sources.items():
        read = own["read"]
        numbers = (count(read["documents"]), size(read["text_bytes"]), count(own["documents"]), count(own["tokens"]))
        table.add_row(Text(printable(name)), *numbers)
    return table


def _groups(title: str, groups: Mapping[str, Mapping[str, int]]) -> RenderableType:
    table = bare_table(title, ("name", "left"), ("documents", "right"), ("tokens", "right"))
    for name, own in [*groups.items()][:ROWS]:
        table.add_row(Text(printable(name)), count(own["documents"]), count(own["tokens"]))
    return _with_rest(table, len(groups), "language")


def _splits_of(splits: Mapping[str, Mapping[str, int]]) -> RenderableType:
    table = bare_table("splits", ("split", "left"), ("documents", "right"), ("tokens", "right"), ("text", "right"))
    for name, own in splits.items():
        table.add_row(Text(name), count(own["documents"]), count(own["tokens"]), size(own["text_bytes"]))
    return table


def _lengths(lengths: Mapping[str, Any]) -> RenderableType:
    names = {"0.0": "shortest", "0.5": "half below", "1.0": "longest"}
    table = bare_table(
        "lengths in tokens", ("of the documents", "left"), ("tokens", "right")
    )  # down: numbers are not cut
    for share, value in lengths["quantiles"].items():
        table.add_row(names.get(share, f"{100 * float(share):g}% below"), count(int(value)))
    return table


def _clusters(clusters: Mapping[str, Any]) -> RenderableType:
    if not clusters["clusters"]:
        return Text("No near-duplicate went.")
    title = f"{plural(clusters['documents'], 'near-duplicate')} went for {plural(clusters['clusters'], 'document')}"
    table = bare_table(title, ("stays", "left"), ("for", "right"), ("such as", "left"))
    for cluster in clusters["largest"]:
        such = cluster["examples"][0]
        example = printable(f"{such['locator']} ({such['similarity']:.2f})")
        table.add_row(Text(printable(cluster["locator"])), count(cluster["members"]), Text(example))
    return table


def _with_rest(table: Table, rows: int, noun: str) -> RenderableType:
    if rows <= ROWS:
        return table
    return Group(table, Text(f"{plural(rows - ROWS, f'further {noun}')}: --json has all of them", style="dim"))
