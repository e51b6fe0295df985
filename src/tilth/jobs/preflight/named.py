"""Which rows a fault is about: the first of them by file and row, so that they can be looked at and mended.

named_rows(dataset, train, sampler, unusable, lost) -> {rule: [locator]}
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from tilth.data.batches.order import Sampler
from tilth.data.batches.packed import PackedSampler
from tilth.data.batches.packing import TOO_LONG, UNTRAINED
from tilth.data.dataset import Dataset
from tilth.data.naming import first_dropped
from tilth.jobs.preflight.tokens import SplitFacts

MOST = 3
_OF_ROWS = {TOO_LONG: "too_long", UNTRAINED: "masked"}


def named_rows(
    dataset: Dataset, train: SplitFacts, sampler: Sampler | None, unusable: Collection[str], lost: Collection[str]
) -> dict[str, list[str]]:
    """The locators of the first rows of each rule, `MOST` at the most; of rules that dropped rows (`unusable`) and of
    those that kept them without something (`lost`) by stage and rule.
    """
    stream = dataset.stream("train")
    ids = {rule: [stream.doc_id(n) for n in numbers[:MOST].tolist()] for rule, numbers in _odd(train).items()}
    for packing in [ring.packing for ring in sampler.rings if isinstance(ring, PackedSampler)] if sampler else []:
        for one in packing.left_out:
            if rule := _OF_ROWS.get(one.rule):
                ids.setdefault(rule, []).extend(packing.stream.doc_id(n) for n in one.documents[:MOST].tolist())
    known = stream.names([doc_id for of_rule in ids.values() for doc_id in of_rule])
    named = {rule: [known[doc_id] for doc_id in of_rule[:MOST]] for rule, of_rule in ids.items()}
    for rules, verdict in ((unusable, "dropped"), (lost, "changed")):
        if rules:
            named |= first_dropped(dataset.files("ledger"), rules, dataset.facts["sources"], MOST, verdict)
    return named


def _odd(train: SplitFacts) -> dict[str, Any]:
    """Numbers of documents of the split that rules are about."""
    first = np.zeros(len(train.keys), np.bool_)
    first[np.unique(train.keys, return_index=True)[1]] = True
    odd = {"without_end": train.endless, "empty": train.empty, "duplicates": ~first}
    return {rule: np.flatnonzero(which) for rule, which in odd.items()}
