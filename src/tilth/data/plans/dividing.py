"""All documents, cleaned, compared and divided into splits: what follows once each part's chain is done.

    compare_parts(config, cleaned, shop) -> Compared        documents that hold the same text, or nearly the same
    assign_splits(config, cleaned, compared, shop) -> Done  every document to its split
    keep_apart(config, cleaned, assigned, …) -> Apart       what is held out, out of training
    every_split(config, assigned, compared)                 DataError where a split is empty
    every_split_encoded(config, encoded)                    the same of its tokens

The plan of tasks, as in pipeline.py, which calls these; the forecast calls them for its sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from tilth.core.errors import DataError
from tilth.core.tasks import Done
from tilth.core.words import plural
from tilth.data.config import DataConfig, SplitConfig
from tilth.data.conversations import Encoder, dropped_by
from tilth.data.plans import compare_plan, leak_plan
from tilth.data.plans.workshop import Cleaned, Compared, Workshop
from tilth.data.tasks.groups import ALIKE
from tilth.data.tasks.parts import Part
from tilth.data.tasks.split import AssignedPart, SplitPlan

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


def assign_splits(
    config: SplitConfig,
    cleaned: Sequence[Cleaned],
    compared: Compared,
    shop: Workshop,
    encoder: Encoder | None = None,
) -> Done:
    """Every document to its split.

    Args:
        encoder: where documents are conversations: a split shall have some that it makes tokens of.
    """
    assigned = _assigned(config, cleaned, compared, shop)
    if encoder is not None and config.by == "document" and _only_refused(config, cleaned, assigned, encoder):
        refusals = shop.run([compare_plan.refused_task(part, encoder) for part in cleaned])
        return _assigned(config, cleaned, compared, shop, refusals)
    if config.by == "auto" and empty_split(config, assigned):
        # A book in pieces is many documents and one group, which is drawn as a whole.
        by_tail = _assigned(config.model_copy(update={"by": "tail"}), cleaned, compared, shop)
        if not empty_split(config, by_tail):
            shop.say("drawing documents leaves a split without any: the end of each source's text is held out instead")
        return by_tail
    return assigned


def _only_refused(config: SplitConfig, cleaned: Sequence[Cleaned], assigned: Done, encoder: Encoder) -> bool:
    """Whether a split has documents, and none that will become tokens: mostly its first one will, and is all that is
    looked at.
    """
    parts, documents = assigned_parts(config, cleaned, assigned), assigned.facts["split_documents"]
    return any(
        documents[name] and all(encoder.refusal(document) for part in parts for document in part.split(name))
        for name in config.names
    )


def _assigned(
    config: SplitConfig,
    cleaned: Sequence[Cleaned],
    compared: Compared,
    shop: Workshop,
    refusals: Sequence[Done] = (),
) -> Done:
    documents = sum(part.digests.facts["documents"] for part in cleaned) - compared.total("documents")
    shares = tuple(share for _, share in config.held_out)
    # Under `auto` the tail comes first: a book in pieces, drawn as one, may be half of the text.
    plan = SplitPlan(config.names, shares, _by_document(config, documents), config.seed, config.by == "document")
    return shop.run_one(compare_plan.assign_task(cleaned, compared, plan, refusals))


def assigned_parts(config: SplitConfig, cleaned: Sequence[Cleaned], assigned: Done) -> list[AssignedPart]:
    return [AssignedPart(part.part, n, assigned.folder, config.names) for n, part in enumerate(cleaned)]


def keep_apart(
    config: DataConfig,
    cleaned: Sequence[Cleaned],
    assigned: Done,
    items: Done | None,
    shop: Workshop,
    encoder: Encoder | None = None,
) -> Apart:
    """Takes out of training what is held out, and measures how well leaks are found.

    Args:
        encoder: where documents are conversations: what it makes no tokens of measures nothing, and is not looked for.
    """
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
    runs = shop.run([leak_plan.held_out_task(part, key, wanted, encoder) for part, key in pairs])
    index = shop.run_one(leak_plan.held_out_index_task(runs))
    found = shop.run([leak_plan.hits_task(part, key, index, wanted.margin) for part, key in pairs])
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


def every_split(config: SplitConfig, assigned: Done, compared: Compared, *, whole: bool = False) -> None:
    """DataError where a split that is to hold something holds nothing.

    Args:
        whole: documents are conversations, of which a part is none.
    """
    if not empty_split(config, assigned):
        return
    documents = assigned.facts["split_documents"]
    counted = ", ".join(f"{n} {'training' if name == 'train' else name}" for name, n in documents.items())
    said = f"the split leaves {' and '.join(counted.rsplit(', ', 1))} documents"
    if refused := assigned.facts.get("refused"):
        said += f" ({', '.join(f'{rule} drops {n:,}' for rule, n in refused.items())})"
    if together := assigned.facts["together"]:
        raise DataError(
            f"{said}: the {plural(together, 'document')} at the end of the text would part near-duplicates",
            "set data.deduplicate: near, so that one of each stays (and most_of_a_source: 1 where most of a source "
            "goes), or give more text",
        )
    if assigned.facts["by"] != "document":
        raise DataError(f"{said}: there is too little text to cut", f"give more text, or {_nothing_held_out(config)}")
    # Where there are as many groups as splits, each split has been given one.
    said = f"{said}: they are one group, or fewer groups than splits (near-duplicates are never parted)"
    if whole:
        raise DataError(said, f"give more conversations that differ, or {_nothing_held_out(config)}")
    alike = compared.near is not None and pq.read_metadata(compared.near.folder / ALIKE).num_rows
    by_tail = "set data.split.by: tail to cut the text instead of drawing documents"
    if alike:  # the end of the text would part them too
        by_tail = (
            "set data.split.by: tail and data.deduplicate: near, to cut the text with one of each in it (and "
            "most_of_a_source: 1 where most of a source goes)"
        )
    raise DataError(said, f"{by_tail}, or give more documents that differ, or {_nothing_held_out(config)}")


def every_split_encoded(config: SplitConfig, encoded: Sequence[Done]) -> None:
    """DataError where of a split that is to hold something no document became tokens."""
    for name, share in config.held_out:
        if share and not sum(done.facts[name]["documents"] for done in encoded):
            raise DataError(
                f"no conversation of the {name} split has become tokens; of all of them {dropped_by(encoded)}",
                f"give more conversations that differ, or {_nothing_held_out(config)}",
            )


def _nothing_held_out(config: SplitConfig) -> str:
    shares = " and ".join(f"data.split.{name}: 0" for name, share in config.held_out if share)
    return f"{shares} to hold nothing out"
