"""From sources to a dataset: the plan, of content-addressed tasks.

    prepare(config, tokenizer, name, root, shop) -> Dataset

    list -> collect (group of files) -> stages, digests, signatures (a chain for each part) -> exact -> near -> split
         -> leaks -> tokenizer -> encode (part) -> dataset

Only the plan is made here, with the tasks of the modules `…_plan.py`; all work is done in tasks. The identity of a task
is what it is made of: along a part's chain the keys of the stages before, after that the content of what chains and
other tasks left (workshop.py).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tilth.core.config import fingerprint
from tilth.core.errors import DataError
from tilth.core.tasks import Done, Task
from tilth.data.config import DataConfig
from tilth.data.conversations import Encoder, check_encoded, check_refused
from tilth.data.dataset import DATASET_VERSION, Dataset, Origin, altered, assemble, damage, dataset_folder
from tilth.data.leaks import exam_files, exam_words
from tilth.data.plans import clean_plan, collect_plan, compare_plan, leak_plan, token_plan
from tilth.data.plans.clean_plan import clean_parts
from tilth.data.plans.dividing import (
    Apart,
    assign_splits,
    assigned_parts,
    compare_parts,
    every_split,
    every_split_encoded,
    keep_apart,
    whole_documents,
)
from tilth.data.plans.token_plan import AnyTokenizer, encode_task, tokenizer_task
from tilth.data.plans.workshop import Cleaned, Compared, Workshop
from tilth.data.sources import Listing, list_inputs
from tilth.data.stages import build_stages, limits
from tilth.data.tasks import collect

_MANY_PARTS = 3  # of text: the tokenizer then learns in several processes, which take a second to start


VERSIONS = {
    "collect": collect.VERSION,
    **clean_plan.VERSIONS,
    **compare_plan.VERSIONS,
    **leak_plan.VERSIONS,
    **token_plan.VERSIONS,
}
"""The version of every kind of task that a dataset is made by."""


def decided_by(config: DataConfig, tokenizer: AnyTokenizer) -> str:
    """The fingerprint of all that decides a dataset beside the files of its sources: what the recipe says, and the
    versions of all that is done.
    """
    stages = [stage.identity() for stage in build_stages(config.clean)]
    said = config.model_dump(mode="json", exclude=_NOT_OF_SHARDS), tokenizer.model_dump(mode="json")
    return fingerprint([VERSIONS, DATASET_VERSION, stages, *said])


_NOT_OF_SHARDS = {"mixture", "packing", "cross_document_attention"}


def prepare(
    config: DataConfig,
    tokenizer: AnyTokenizer,
    name: str,
    root: Path,
    shop: Workshop,
    listings: Sequence[Listing] | None = None,
    against: Sequence[Listing] | None = None,
    encoder: Encoder | None = None,
) -> Dataset:
    """Takes the sources to shards, doing only what is not done yet, and opens the result.

    Args:
        name: what the dataset's folder is called.
        root: the folder that relative paths of sources start from.
        listings: the files of each source, where they are known already.
        against: those of each of `decontaminate.against`.
        encoder: how documents become tokens, where they are more than a text.
    """
    config = whole_documents(config) if encoder else config
    downloads = shop.workspace / "downloads"
    found = listings or [list_inputs(source, root, downloads) for source in config.sources]
    against = against or [list_inputs(source, root, downloads) for source in config.decontaminate.against]
    divided = _divide(config, found, against, shop, encoder)
    trained, encodings = _encodings(config, tokenizer, divided, shop, encoder)
    stages, more = divided.stages, {"decontamination": divided.apart.facts}
    final = dataset_folder(shop.workspace, name, trained.task, encodings, stages, more)
    damaged = damage(final, verify=shop.verify)
    if damaged:
        shop.say(f"{damaged}; it is made again")
    # The dataset's files are links to these results: one that was altered must not be gathered again.
    if damaged is not None and not shop.verify and (wrong := altered(divided.gathered)):
        shop.say(f"{wrong}; it is made again")
        return prepare(config, tokenizer, name, root, replace(shop, verify=True), found, against, encoder)
    encoded = shop.run(encodings, verify=damaged is not None)
    if encoder is not None:  # it drops documents too
        stages["encode"] = encoded
        check_encoded(encoded)
        every_split_encoded(config.split, encoded)
    recipe = {
        "data": config.model_dump(mode="json", exclude_none=True),
        "tokenizer": tokenizer.model_dump(mode="json", exclude_none=True),
    }
    names, tasks, anew = config.split.names, sorted(shop.used), damaged is not None
    return assemble(final, stages, trained, encoded, names, tasks, divided.origins, recipe, more, anew=anew)


@dataclass(frozen=True)
class _Divided:
    """All documents, cleaned, compared and divided into splits, and the tasks that did it."""

    collected: list[Done]
    cleaned: list[Cleaned]
    compared: Compared
    split: Done
    apart: Apart

    @property
    def stages(self) -> dict[str, Sequence[Done]]:
        """The tasks of each stage, in the order in which documents go through them."""
        return {
            "read": self.collected,
            "clean": _of_kind(self.cleaned, "clean"),
            "shared_lines": _of_kind(self.cleaned, "shared_lines"),
            "decontaminate": _of_kind(self.cleaned, "decontaminate"),
            "deduplicate": self.compared.done,
            "split": [self.split],
            "leaks": [self.apart.leaks] if self.apart.leaks else [],
        }

    @property
    def gathered(self) -> list[Done]:
        """The tasks of which a dataset holds files."""
        return [*itertools.chain.from_iterable(self.stages.values()), *(part.digests for part in self.cleaned)]

    @property
    def origins(self) -> list[Origin]:
        """What each part went through."""
        return [Origin(c.part.folder / c.part.name, c.part.stages, c.digests.folder) for c in self.cleaned]


def _divide(
    config: DataConfig, found: Sequence[Listing], against: Sequence[Listing], shop: Workshop, encoder: Encoder | None
) -> _Divided:
    """From files to documents that have their split."""
    for said in (note for listing in (*found, *against) for note in listing.notes):
        shop.say(said)
    collected = shop.run(collect_plan.collect_tasks(config, found))
    for said in (*collect_plan.losses(config, found, collected), *collect_plan.faults(config, found, collected)):
        shop.say(said)
    parts = [(done, part["file"]) for done in collected for part in done.facts["parts"]]
    if not parts:
        raise DataError(
            f"no document is left after reading {_names(config)}: {_rules([d.facts for d in collected])}"
            f"{_first_dropped(collected)}",
            collect_plan.remedy_of_nothing(config, found, collected),
        )
    if encoder is not None:  # before anything is made of rows that no token is made of
        check_refused([done.folder / name for done, name in parts], encoder)
    evaluation = leak_plan.items_task(config.decontaminate, against) if config.decontaminate.against else None
    items = shop.run_one(evaluation) if evaluation else None
    exams = exam_files.sources_of(config.decontaminate.against, against, items.facts["sources"]) if items else []
    for said in (*exam_files.faults(exams), *exam_words.passed_over(exams)):
        shop.say(said)
    cleaned = clean_parts(config, parts, shop, items)
    _something_left(config, collected, cleaned)
    compared = compare_parts(config, cleaned, shop)
    assigned = assign_splits(config.split, cleaned, compared, shop, encoder)
    every_split(config.split, assigned, compared, whole=encoder is not None)
    apart = keep_apart(config, cleaned, assigned, items, shop, encoder)
    if items:
        apart.facts["evaluation"]["sources"] = exams
    return _Divided(collected, cleaned, compared, assigned, apart)


def _encodings(
    config: DataConfig, tokenizer: AnyTokenizer, divided: _Divided, shop: Workshop, encoder: Encoder | None
) -> tuple[Done, list[Task]]:
    """The tokenizer, learned or taken, and the tasks that make tokens of each part with it."""
    cleaned, assigned = divided.cleaned, divided.apart.assigned
    parts, workers = assigned_parts(config.split, cleaned, assigned), shop.executor.workers
    sharing = workers if shop.executor.tasks_may_fork and len(parts) >= _MANY_PARTS else 1
    trained = shop.run_one(tokenizer_task(tokenizer, parts, cleaned, assigned, sharing), verify=True)
    threads = max(1, workers // len(parts))  # few parts: threads inside a task use the processors that are left
    pairs = zip(parts, cleaned, strict=True)
    return trained, [encode_task(part, c, assigned, trained, threads, encoder) for part, c in pairs]


def _of_kind(cleaned: Sequence[Cleaned], kind: str) -> list[Done]:
    return [done for part in cleaned for done in part.stages if done.task.kind == kind]


def _something_left(config: DataConfig, collected: Sequence[Done], cleaned: Sequence[Cleaned]) -> None:
    if not sum(part.digests.facts["documents"] for part in cleaned):
        facts = [done.facts for done in (*collected, *(done for part in cleaned for done in part.stages))]
        rules = limits((rule for fact in facts for rule in fact["rules"]["dropped"]), build_stages(config.clean))
        raise DataError(
            f"no document is left of {_names(config)}: {_rules(facts)}",
            f"look at these rules: data.clean has {', '.join(rules)}"
            if rules
            else "look at these rules: data.clean names the stages and their options",
        )


def _names(config: DataConfig) -> str:
    return ", ".join(source.source_name for source in config.sources)


def _first_dropped(collected: Sequence[Done]) -> str:
    """Why the first document was not read, in words."""
    for done in collected:
        with pq.ParquetFile(done.folder / "ledger.parquet") as ledger:
            for batch in ledger.iter_batches(columns=["verdict", "detail"]):
                for row in batch.to_pylist():
                    if row["verdict"] == "dropped" and row["detail"]:
                        return f"; the first: {row['detail']}"
    return ""


def _rules(facts: Sequence[dict[str, Any]]) -> str:
    counts: Counter[str] = Counter()
    for fact in facts:
        counts.update(fact["rules"]["dropped"])
    return ", ".join(f"{rule} dropped {n}" for rule, n in counts.most_common()) or "there was none"
