"""From sources to a dataset: the stages strung together as content-addressed tasks.

    prepare(config, tokenizer, name, workspace, …) -> Dataset

    list -> collect (group of files) -> clean (part) -> dedup (all) -> split -> tokenizer -> encode (part) -> dataset

Only the plan is made here; all work is done in tasks, and each task's identity is made of the keys of the tasks
before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth.core.errors import DataError
from tilth.core.tasks import Done, OnDone, Task, run_tasks
from tilth.data import stages
from tilth.data.config import DataConfig, SplitConfig
from tilth.data.dataset import Dataset, assemble, dataset_folder, is_whole
from tilth.data.document import Verdict
from tilth.data.sources import Input, SourceConfig, list_inputs
from tilth.data.sources.config import ORIGINS
from tilth.data.stages import CleanedPart, Part, SplitPlan
from tilth.tokenizer import TokenizerConfig, train_tokenizer

_TOKENIZER_VERSION = 1
FEW_DOCUMENTS = 100
"""Below this many documents `split.by: auto` cuts the text instead of drawing documents."""


@dataclass(frozen=True)
class Workshop:
    """Where and how tasks run."""

    workspace: Path
    workers: int = 1
    on_done: OnDone | None = None

    def run(self, tasks: Sequence[Task], *, verify: bool = False) -> list[Done]:
        """Runs what is missing of `tasks`; with `verify` also what was altered."""
        return run_tasks(tasks, self.workspace, self.workers, self.on_done, verify=verify)


def prepare(config: DataConfig, tokenizer: TokenizerConfig, name: str, base: Path, shop: Workshop) -> Dataset:
    """Takes the sources to shards, doing only what is not done yet, and opens the result.

    Args:
        name: what the dataset's folder is called.
        base: the folder that relative paths of sources start from.
    """
    collected = shop.run(_collect_tasks(config, base, shop.workspace))
    parts = [(done, part["file"]) for done in collected for part in done.facts["parts"]]
    if not parts:
        raise DataError(
            f"no document is left after reading {_names(config)}: {_rules([d.facts for d in collected])}",
            "check that the files hold text, and the source's field and format",
        )
    cleaned = shop.run([_clean_task(config, done, name) for done, name in parts])
    dedup = shop.run([_dedup_task(cleaned)])[0] if config.deduplicate == "exact" else None
    _something_left(config, collected, cleaned, dedup)
    divided = _divide(config.split, cleaned, dedup)
    trained = shop.run([_tokenizer_task(tokenizer, divided, cleaned, dedup)], verify=True)[0]
    threads = max(1, shop.workers // len(divided))  # few parts: threads inside a task use the processors that are left
    encodings = [_encode_task(part, d, dedup, trained, threads) for part, d in zip(divided, cleaned, strict=True)]
    # The dataset's files are links to these results: one that was altered must not be gathered again.
    encoded = shop.run(encodings, verify=not is_whole(dataset_folder(shop.workspace, name, trained.task, encodings)))
    _both_splits(config.split, encoded)
    stages_done = {"read": collected, "clean": cleaned, "deduplicate": [dedup] if dedup else [], "split": encoded}
    return assemble(shop.workspace, name, stages_done, trained, encoded)


def _collect_tasks(config: DataConfig, base: Path, workspace: Path) -> list[Task]:
    tasks = []
    for source in config.sources:
        listing = list_inputs(source, base, workspace / "downloads")
        skipped = listing.skipped
        for group in _groups(listing.inputs, config.shard_bytes):
            tasks.append(_collect_task(source, group, skipped, config.shard_bytes))
            skipped = ()
    return tasks


def _groups(inputs: Sequence[Input], group_bytes: int) -> Iterator[list[Input]]:
    """Neighbouring files in groups of about `group_bytes`: the unit in which work is done and redone."""
    group: list[Input] = []
    size = 0
    for item in inputs:
        group.append(item)
        size += item.size
        if size >= group_bytes:
            yield group
            group, size = [], 0
    if group:
        yield group


def _collect_task(source: SourceConfig, group: list[Input], skipped: Sequence[Verdict], part_bytes: int) -> Task:
    arguments = {"source": source, "inputs": group, "skipped": skipped, "part_bytes": part_bytes}
    identity = {
        # Where the text comes from is in the inputs; what is done with it is in these.
        "source": source.model_dump(mode="json", exclude=set(ORIGINS) - {"builtin"} | {"sha256"}),
        "inputs": [item.identity() for item in group],
        "skipped": [[v.doc_id, v.rule, v.detail] for v in skipped],
        "part_bytes": part_bytes,
    }
    return Task("collect", stages.collect, arguments, identity, stages.VERSIONS["collect"])


def _clean_task(config: DataConfig, collected: Done, name: str) -> Task:
    dumped = config.model_dump(mode="json")["clean"]
    arguments = {"part": Part(collected.folder, name), "stages": config.clean}
    identity = {"collected": collected.task.key, "part": name, "stages": dumped}
    return Task("clean", stages.clean_part, arguments, identity, stages.VERSIONS["clean"])


def _dedup_task(cleaned: Sequence[Done]) -> Task:
    identity = {"cleaned": [done.task.key for done in cleaned]}
    return Task("dedup", stages.dedup, {"cleaned": [d.folder for d in cleaned]}, identity, stages.VERSIONS["dedup"])


def _divide(split: SplitConfig, cleaned: Sequence[Done], dedup: Done | None) -> list[CleanedPart]:
    drops = dedup.folder if dedup else None
    documents = sum(done.facts["documents"] for done in cleaned) - (dedup.facts["documents"] if dedup else 0)
    by_document = split.by == "document" or (split.by == "auto" and documents >= FEW_DOCUMENTS)
    if by_document:
        plans = [SplitPlan(split.validation, split.seed)] * len(cleaned)
    else:
        plans = _tail_plans(split.validation, cleaned, dedup)
    return [CleanedPart(d.folder, n, drops, plan) for n, (d, plan) in enumerate(zip(cleaned, plans, strict=True))]


def _tail_plans(share: float, cleaned: Sequence[Done], dedup: Done | None) -> list[SplitPlan]:
    """Cuts the characters that are kept, all parts in a row, at the share: int(n * (1 - share)), as nanoGPT does."""
    sizes = []
    for number, done in enumerate(cleaned):
        part = CleanedPart(done.folder, number, dedup.folder if dedup else None, SplitPlan(None))
        dropped_any = dedup is not None and dedup.facts["documents"]
        sizes.append(sum(len(d.text) for d in part.kept()) if dropped_any else done.facts["characters"])
    left, plans = int(sum(sizes) * (1 - share)), []
    for size in sizes:
        plans.append(SplitPlan(None, train_characters=min(left, size)))
        left -= min(left, size)
    return plans


def _plan_identity(part: CleanedPart) -> list[Any]:
    return [part.plan.share, part.plan.seed, part.plan.train_characters]


def _tokenizer_task(
    config: TokenizerConfig, divided: Sequence[CleanedPart], cleaned: Sequence[Done], dedup: Done | None
) -> Task:
    identity: dict[str, Any] = {"tokenizer": config.model_dump(mode="json")}
    if config.kind != "byte":  # bytes are the same whatever the text
        identity |= {
            "cleaned": [done.task.key for done in cleaned],
            "dedup": dedup.task.key if dedup else None,
            "split": [_plan_identity(part) for part in divided],
        }
    return Task("tokenizer", _learn_tokenizer, {"config": config, "parts": list(divided)}, identity, _TOKENIZER_VERSION)


def _learn_tokenizer(folder: Path, config: TokenizerConfig, parts: Sequence[CleanedPart]) -> dict[str, Any]:
    """Learns from the training split alone: what is held out stays unseen."""
    texts = (document.text for part in parts for document in part.split("train"))
    tokenizer = train_tokenizer(config, texts)
    tokenizer.save(folder)
    return {"kind_of_tokenizer": config.kind, "vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint}


def _encode_task(part: CleanedPart, cleaned: Done, dedup: Done | None, tokenizer: Done, threads: int) -> Task:
    identity = {
        "cleaned": cleaned.task.key,
        "dedup": dedup.task.key if dedup else None,
        "part": part.number,
        "split": _plan_identity(part),
        "tokenizer": tokenizer.facts["fingerprint"],
    }
    arguments = {"part": part, "tokenizer_folder": tokenizer.folder, "threads": threads}
    return Task("encode", stages.encode, arguments, identity, stages.VERSIONS["encode"])


def _something_left(config: DataConfig, collected: Sequence[Done], cleaned: Sequence[Done], dedup: Done | None) -> None:
    if not sum(done.facts["documents"] for done in cleaned):
        facts = [done.facts for done in (*collected, *cleaned)]
        raise DataError(
            f"no document is left of {_names(config)}: {_rules(facts)}",
            "look at these rules: data.clean names the stages and their options",
        )


def _both_splits(split: SplitConfig, encoded: Sequence[Done]) -> None:
    documents = {name: sum(done.facts[name]["documents"] for done in encoded) for name in ("train", "validation")}
    if not documents["train"] or (split.validation and not documents["validation"]):
        raise DataError(
            f"the split leaves {documents['train']} training and {documents['validation']} validation documents",
            "change data.split.validation, or set data.split.by: tail to cut the text instead of drawing documents",
        )


def _names(config: DataConfig) -> str:
    return ", ".join(source.source_name for source in config.sources)


def _rules(facts: Sequence[dict[str, Any]]) -> str:
    counts: Counter[str] = Counter()
    for fact in facts:
        counts.update(fact["rules"]["dropped"])
    return ", ".join(f"{rule} dropped {n}" for rule, n in counts.most_common()) or "there was none"
