"""What `tilth prepare` says of a dataset: what was read, changed, dropped and kept, and what the splits hold.

dataset_table(facts)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tilth.cli.leak_table import leak_table
from tilth.cli.tables import bare_table, count, percent, plural, printable, size
from tilth.core.words import left_out


def dataset_table(facts: Mapping[str, Any], training: Mapping[str, int] | None = None) -> RenderableType:
    """What became of the documents, rule by rule, and what the splits hold; `facts` are a Dataset's.

    Args:
        training: what the tokenizer learned from, as it remembers it.
    """
    read, rules = facts["read"], facts["rules"]
    table = bare_table("documents", ("what happened", "left"), ("documents", "right"), ("text", "right"))
    early = {rule: n for rule, n in rules["dropped"].items() if _is_before_reading(rule)}
    late = {rule: n for rule, n in rules["dropped"].items() if rule not in early}
    _add_rules(table, "left out", early)
    named = facts.get("passed_over", {})
    table.notes = [printable(f"{rule}: {left_out(rule, named[rule], n)}") for rule, n in early.items() if rule in named]
    table.add_row("read", count(read["documents"]), size(read["text_bytes"]), style="bold")
    _add_rules(table, "changed", rules["changed"])
    _add_rules(table, "dropped", late)
    for step, pieces in _more(facts.get("flow", ())):
        table.add_row(Text(f"  + pieces by {printable(step)}"), count(pieces), "")
    kept = facts["documents"]
    kept_bytes = sum(split["text_bytes"] for split in facts["splits"].values())
    table.add_row("kept", count(kept), size(kept_bytes), style="bold")
    shown: list[RenderableType] = [table, Text(), _splits_table(facts, kept, training or {})]
    if leaks := leak_table(facts.get("decontamination", {})):
        shown += [Text(), leaks]
    return Group(*shown)


def _more(steps: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int]]:
    """The steps after which there are more documents, for they were cut up, and how many more."""
    for before, after in itertools.pairwise(steps):
        if after["documents"] > before["documents"]:
            yield f"{after['stage']}/{after['name']}", after["documents"] - before["documents"]


def _is_before_reading(rule: str) -> bool:
    """Whether what the rule drops never became a document, and is not in the number that was read."""
    return rule.partition("/")[0] in ("list", "fetch", "read")


def _add_rules(table: Table, verdict: str, rules: Mapping[str, int]) -> None:
    for rule, documents in rules.items():
        table.add_row(Text(f"  {verdict} by {printable(rule)}"), count(documents), "")


def _splits_table(facts: Mapping[str, Any], kept: int, training: Mapping[str, int]) -> Table:
    columns = (("split", "left"), ("documents", "right"), ("tokens", "right"), ("text", "right"))
    table = bare_table("splits", *columns, ("bytes/\ntoken", "right"))
    splits = facts["splits"]
    for name, split in splits.items():
        per_token = f"{split['text_bytes'] / split['tokens']:.2f}" if split["tokens"] else ""
        numbers = (count(split["documents"]), count(split["tokens"]), size(split["text_bytes"]), per_token)
        table.add_row(Text(printable(name)), *numbers)
    table.notes = [*_remarks(facts, kept), *_not_learned_from(facts, training)]
    return table


def _remarks(facts: Mapping[str, Any], kept: int) -> list[str]:
    splits = facts["splits"].values()
    remarks = [f"vocabulary: {plural(facts['vocab_size'], 'token')}"]
    cut = sum(split["documents"] for split in splits) - kept
    if cut > 0:
        remarks.append(f"{plural(cut, 'document')} cut in two by the split: a part in each")
    split = facts.get("split", {})  # datasets of before do not say it
    if split.get("by") == "tail":
        remarks.append("held out is the end of each source's text")
    if together := split.get("together", 0):
        remarks.append(f"{plural(together, 'document')} of it trained on: near-duplicates of what is")
    unknown = sum(split["unknown_characters"] for split in splits)
    if unknown:
        remarks.append(f"{plural(unknown, 'character')} unknown to the tokenizer")
    return remarks


def _not_learned_from(facts: Mapping[str, Any], training: Mapping[str, int]) -> list[str]:
    """The text that the tokenizer was not trained on, though it was there."""
    remarks = []
    if training.get("stopped_at_limit"):
        read, there = training["bytes_read"], facts["splits"]["train"]["text_bytes"]
        remarks.append(
            f"the tokenizer learned from the first {size(read)} of {size(there)} of training text, "
            f"{percent(read / there)} (tokenizer.train_bytes)"
        )
    if words := training.get("long_pretokens", 0):
        much = size(training["long_bytes"])
        remarks.append(f"the tokenizer did not learn from {plural(words, 'overlong word')} ({much})")
    if lone := training.get("surrogates", 0):
        remarks.append(f"the tokenizer did not learn from {plural(lone, 'lone surrogate')}")
    return remarks
