"""All documents, cleaned, compared and divided into splits: what follows once each part's chain is done.

    compare_parts(config, cleaned, shop) -> Compared        documents that hold the same text, or nearly the same
    assign_splits(config, cleaned, compared, shop) -> Done  every document to its split
    keep_apart(config, cleaned, assigned, …) -> Apart       what is held out, out of training
    every_split(config, assigned)                           DataError where a split is empty

The plan of tasks, as in pipeline.py, which calls these; the forecast calls them for its sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tilth.core.errors import DataError
from tilth.core.tasks import Done
from tilth.core.words import plural
from tilth.data import compare_plan, leak_plan
from tilth.data.config import DataConfig, SplitConfig
from tilth.data.tasks.parts import Part
from tilth.data.tasks.split import AssignedPart, SplitPlan
from tilth.data.workshop import Cleaned, Compared, Workshop

FEW_DOCUMENTS = 100
"""Below this many documents `split.by: auto` cuts the text instead of drawing documents."""


@dataclass(frozen=True)
class Apart:
    """What keeps training apart from what the model will be measured by.

    Attributes:
        assigned: every document's split, what leaks taken out of training.
        leaks: the task that took them out; None where nothing is held out.
        facts: what the dataset's manifest says of it.
    """

    assigned: Done
    leaks: Done | None
    facts: dict[str, Any]


def whole_documents(config: DataConfig) -> DataConfig:
    """Half a conversation is none: what is left to us, `auto`, never cuts one at the border of the splits."""
    if config.split.by != "auto":
        return config
    return config.model_copy(update={"split": config.split.model_copy(update={"by": "document"})})


def _by_document(config: SplitConfig, documents: int) -> bool:
    return config.by == "document" or (config.by == "auto" and documents >= FEW_DOCUMENTS)


def compare_parts(config: DataConfig, cleaned: Sequence[Cleaned], shop: Workshop) -> Compared:
    """Documents that hold the same text, and nearly the same."""
    exact = shop.run_one(compare_plan.exact_task(cleaned)) if config.deduplicate != "none" else None
    if exact and not config.drops_near:  # else the task `near` judges all that goes
        for lossy in exact.facts["emptied"]:
            shop.say(f"deduplication drops {lossy}")
    documents = sum(part.digests.facts["documents"] for part in cleaned) - (exact.facts["documents"] if exact else 0)
    if not config.drops_near and (documents < 2 or not config.keeps_together):
        return Compared(exact)
    near = config.near
    listed = shop.run_one(compare_plan.candidates_task(cleaned, exact, near))
    shingled = shop.run([compare_plan.shingles_task(part, n, listed, near) for n, part in enumerate(cleaned)])
    task = compare_plan.near_task(cleaned, exact, listed, shingled, near, drop=config.drops_near)
    return Compared(exact, shop.run_one(task))


def assign_splits(config: SplitConfig, cleaned: Sequence[Cleaned], compared: Compared, shop: Workshop) -> Done:
    """Every document to its split."""
    assigned = _assigned(config, cleaned, compared, shop)
    if config.by == "auto" and empty_split(config, assigned):
        # A book in pieces is many documents and one group, which is drawn as a whole.
        by_tail = _assigned(config.model_copy(update={"by": "tail"}), cleaned, compared, shop)
        if not empty_split(config, by_tail):
            shop.say("drawing documents leaves a split without any: the end of each source's text is held out instead")
        return by_tail
    return assigned


def _assigned(config: SplitConfig, cleaned: Sequence[Cleaned], compared: Compared, shop: Workshop) -> Done:
    documents = sum(part.digests.facts["documents"] for part in cleaned) - compared.total("documents")
    shares = tuple(share for _, share in config.held_out)
    # Under `auto` the tail comes first: a book in pieces, drawn as one, may be half of the text.
    plan = SplitPlan(config.names, shares, _by_document(config, documents), config.seed, config.by == "document")
    return shop.run_one(compare_plan.assign_task(cleaned, compared, plan))


def assigned_parts(config: SplitConfig, cleaned: Sequence[Cleaned], assigned: Done) -> list[AssignedPart]:
    return [AssignedPart(part.part, n, assigned.folder, config.names) for n, part in enumerate(cleaned)]


def keep_apart(
    config: DataConfig, cleaned: Sequence[Cleaned], assigned: Done, items: Done | None, shop: Workshop
) -> Apart:
    """Takes out of training what is held out, and measures how well leaks are found."""
    facts: dict[str, Any] = {}
    wanted = config.decontaminate
    if items is not None:
        # Not by content, which is known of a part at the end of its chain only.
        undecided = [Part(part.part.folder, part.part.name, part.part.stages[:-1]) for part in cleaned]
        keys = [part.stages[-1].task.key for part in cleaned]
        measured = shop.run_one(leak_plan.recall_task(items, undecided, keys, None, wanted))
        facts["evaluation"] = {**_plain(items), **_plain(measured)}
    if not config.keeps_held_out_apart:
        return Apart(assigned, None, facts)
    divided = assigned_parts(config.split, cleaned, assigned)
    keys = [f"{part.key}/{own}" for part, own in zip(cleaned, assigned.facts["parts"], strict=True)]
    pairs = list(zip(divided, keys, strict=True))
    runs = shop.run([leak_plan.held_out_task(part, key, wanted) for part, key in pairs])
    index = shop.run_one(leak_plan.held_out_index_task(runs))
    found = shop.run([leak_plan.hits_task(part, key, index) for part, key in pairs])
    digests = [part.digests for part in cleaned]
    leaks = shop.run_one(leak_plan.leaks_task(digests, assigned, pairs, index, found, wanted))
    measured = shop.run_one(leak_plan.recall_task(index, divided, keys, leaks, wanted))
    too_short = sum(done.facts["too_short"] for done in runs)
    facts["held_out"] = {**_plain(index), "too_short": too_short, "common": leaks.facts["common"], **_plain(measured)}
    return Apart(leaks, leaks, facts)


def _plain(done: Done) -> dict[str, Any]:
    """What a task counted."""
    return {key: value for key, value in done.facts.items() if key not in ("kind", "key", "rules", "files", "seal")}


def empty_split(config: SplitConfig, assigned: Done) -> bool:
    """Whether a split that is to hold something holds nothing."""
    documents, shares = assigned.facts["split_documents"], {"train": 1.0, **dict(config.held_out)}
    return any(share and not documents[name] for name, share in shares.items())


def every_split(config: SplitConfig, assigned: Done, *, whole: bool = False) -> None:
    """DataError where a split that is to hold something holds nothing.

    Args:
        whole: documents are conversations, of which a part is none.
    """
    if empty_split(config, assigned):
        documents = assigned.facts["split_documents"]
        counted = ", ".join(f"{n} {'training' if name == 'train' else name}" for name, n in documents.items())
        said = f"the split leaves {' and '.join(counted.rsplit(', ', 1))} documents"
        if together := assigned.facts["together"]:
            raise DataError(
                f"{said}: the {plural(together, 'document')} at the end of the text would part near-duplicates",
                "set data.deduplicate: near, so that one of each stays (and most_of_a_source: 1 where most of a source "
                "goes), or give more text",
            )
        if whole and assigned.facts["by"] == "document":
            raise DataError(
                f"{said}: they are one group, or fewer groups than splits (near-duplicates are never parted)",
                "give more conversations that differ, or data.split.validation: 0 to hold nothing out",
            )
        raise DataError(
            said,
            "change data.split.validation, or set data.split.by: tail to cut the text instead of drawing documents",
        )
