"""What was left after each stage, and what was read of each source: from the facts that tasks leave.

flow(stages, parts)      documents and bytes after reading, after each stage of `clean:`, and after what follows
dropped_bytes(stages)    bytes that each rule dropped
cut_bytes(stages, …)     bytes that each rule cut out of documents that stayed
read_by_source(read)     documents and bytes that each source gave
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tilth.core.tasks import Done

SIZES = ("documents", "text_bytes")
BY_PART = ("clean", "shared_lines", "decontaminate", "encode")
"""The stages that edit, or at last drop what cannot be encoded: a task of each for every part, in this order."""


def flow(stages: Mapping[str, Sequence[Done]], parts: int, kept_bytes: int) -> list[dict[str, Any]]:
    """What is left after each step, as [{stage, name, documents, text_bytes}], from `read` on.

    Args:
        stages: the tasks of each stage, in the order in which documents go through them; those of `BY_PART` part by
            part, as many of each part (of `clean` as there are stages in the recipe).
        parts: how many parts the corpus has.
        kept_bytes: of all splits, as they were written: what is cut out of documents once they are divided is known
            only then.
    """
    left = {key: sum(part[key] for done in stages["read"] for part in done.facts["parts"]) for key in SIZES}
    steps = [{"stage": "read", "name": "read", **left}]
    for stage, results in stages.items():
        if stage in BY_PART:
            width = len(results) // parts
            for tasks in (results[place::width] for place in range(width)):
                left = {key: sum(done.facts[key] for done in tasks) for key in SIZES}
                steps.append({"stage": stage, "name": tasks[0].facts["stage"], **left})
        elif stage != "read":
            for done in results:
                gone = done.facts["rules"]["dropped"].values(), done.facts["dropped_bytes"].values()
                left = {key: left[key] - sum(counts) for key, counts in zip(SIZES, gone, strict=True)}
                left |= {"text_bytes": _encoded(stages, kept_bytes)} if stage == "leaks" else {}
                steps.append({"stage": stage, "name": done.task.kind, **left})
    steps[-1]["text_bytes"] = kept_bytes
    return steps


def _encoded(stages: Mapping[str, Sequence[Done]], kept_bytes: int) -> int:
    """Bytes of text that were there to be encoded."""
    return kept_bytes + sum(sum(done.facts["dropped_bytes"].values()) for done in stages.get("encode", ()))


def cut_bytes(stages: Mapping[str, Sequence[Done]], steps: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Bytes of text that each rule cut out of documents that stayed; `steps`: those of `flow`."""
    counted: Counter[str] = Counter()
    for done in (done for results in stages.values() for done in results):
        counted.update(done.facts.get("cut_bytes", {}))
    for before, after in itertools.pairwise(steps):
        if after["stage"] == "leaks":
            [done] = stages["leaks"]
            gone = before["text_bytes"] - after["text_bytes"] - sum(done.facts["dropped_bytes"].values())
            counted.update(dict.fromkeys(done.facts["rules"]["changed"], gone))
    return dict(sorted(counted.items()))


def dropped_bytes(stages: Mapping[str, Sequence[Done]]) -> dict[str, int]:
    """Bytes of text that each rule dropped; those that drop before there is a text are not among them."""
    counted: Counter[str] = Counter()
    for done in (done for results in stages.values() for done in results):
        counted.update(done.facts.get("dropped_bytes", {}))
    return dict(sorted(counted.items()))


def read_by_source(read: Sequence[Done]) -> dict[str, dict[str, int]]:
    """Documents and bytes that were read of each source, in the order of the recipe."""
    sources: dict[str, dict[str, int]] = {}
    for done in read:
        own = sources.setdefault(done.task.arguments["source"].source_name, dict.fromkeys(SIZES, 0))
        for part in done.facts["parts"]:
            for key in SIZES:
                own[key] += part[key]
    return sources
