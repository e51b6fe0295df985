"""Validation items that stand in training text.

    leak_facts(recipe, dataset, train, validation, …) -> LeakFacts

Where preparing keeps held-out text out of training (`data.decontaminate.validation`), it has looked already. Where it
does not, the same rule looks here, through the first `MOST_BYTES` of the training text.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq

from tilth.data import words
from tilth.data.batches.batch import Int64
from tilth.data.dataset import Dataset
from tilth.data.leaks.decontaminate import DecontaminateConfig, Hits, Index, empty_filter, fill_filter, item_grams
from tilth.data.tasks.leaks import Detector
from tilth.jobs.preflight.facts import LeakFacts
from tilth.jobs.preflight.tokens import SplitFacts
from tilth.jobs.recipe import Recipe

MOST_BYTES = 1 << 28
_ROWS = 1 << 12


def leak_facts(
    recipe: Recipe, dataset: Dataset, train: SplitFacts, validation: SplitFacts, *, thorough: bool
) -> LeakFacts:
    """What training text has of validation items.

    Args:
        thorough: look through the text where preparing did not.
    """
    same = np.flatnonzero(validation.in_common_with(train))
    rules = dataset.facts["rules"]
    taken_out = sum(n for verdict in rules.values() for rule, n in verdict.items() if rule.startswith("decontaminate/"))
    if recipe.data.keeps_held_out_apart:
        return LeakFacts(len(same), len(same), "prepared so", taken_out)
    if not thorough or not validation.documents:
        return LeakFacts(len(same), None, "not looked for", taken_out)
    inside, size, whole = _inside(recipe.data.decontaminate, dataset)
    looked = "in all training text" if whole else f"in the first {size:,} bytes of training text"
    return LeakFacts(len(same), len(np.union1d(same, inside)), looked, taken_out)


def _inside(config: DecontaminateConfig, dataset: Dataset) -> tuple[Int64, int, bool]:
    """The validation documents, by number, that training text holds; bytes of it that were looked at, and whether all.

    N-grams that many training documents hold are no evidence, as in preparing.
    """
    index = _index(config, dataset)
    found, seen, size, whole = list[Hits](), 0, 0, True
    for batch in _texts(dataset, "train"):
        if size >= MOST_BYTES:
            whole = False
            break
        hits = index.find(batch)
        found.append(hits._replace(rows=hits.rows + seen))
        seen, size = seen + len(batch), size + sum(len(text.encode()) for text in batch)
    columns = (
        np.concatenate([np.empty(0, np.int64), *(getattr(hits, name) for hits in found)]) for name in Hits._fields
    )
    hits = Hits(*columns)
    pairs = np.unique(np.stack([hits.rows, hits.grams]), axis=1)
    grams, documents = np.unique(pairs[1], return_counts=True)
    detector = Detector(index, config, grams[documents > config.common])
    return np.unique(detector.judge(hits).items), size, whole


def _index(config: DecontaminateConfig, dataset: Dataset) -> Index:
    texts = [text for batch in _texts(dataset, "validation") for text in batch]
    grams, sizes, widths = item_grams(texts, 0, config.ngram, config.shortest)
    bits = empty_filter(len(grams.hashes))
    fill_filter(bits, grams.hashes)
    return Index(grams, bits, sizes, widths)


def _texts(dataset: Dataset, split: str) -> Iterator[list[str]]:
    """The documents of a split, in the order of its shards."""
    for path in dataset.files(f"documents/{split}"):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS, columns=["text"]):
                yield from words.batches(batch["text"].to_pylist())
