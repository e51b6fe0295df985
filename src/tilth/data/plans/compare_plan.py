"""The tasks that compare all documents and divide them, as the pipeline plans them: what decides the name of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from tilth.core.tasks import Done, Task
from tilth.data.conversations import Encoder
from tilth.data.duplicates.dedup import NearConfig
from tilth.data.plans.workshop import Cleaned, Compared, content, hash_of
from tilth.data.tasks import dedup, pairs, refused, split
from tilth.data.tasks.cleaning import SIGNATURES
from tilth.data.tasks.corpus import DROPS
from tilth.data.tasks.groups import ALIKE, GROUPS
from tilth.data.tasks.refused import REFUSED
from tilth.data.tasks.split import SplitPlan

VERSIONS = {**dedup.VERSIONS, **pairs.VERSIONS, "refused": refused.VERSION, "assign": split.VERSION}
"""The version of each kind of task that is planned here: raised where its results change."""


def exact_task(cleaned: Sequence[Cleaned]) -> Task:
    """Documents whose text stood before."""
    arguments = {"digests": [part.digests.folder for part in cleaned]}
    return _task("exact", dedup.exact, arguments, _measures(cleaned))


def candidates_task(cleaned: Sequence[Cleaned], exact: Done | None, config: NearConfig) -> Task:
    """Pairs that may be near-duplicates."""
    signed = [part.signatures for part in cleaned if part.signatures is not None]
    identity = [_measures(cleaned), [hash_of(done, SIGNATURES) for done in signed], _drops(exact), config.keep]
    arguments = {
        "digests": [part.digests.folder for part in cleaned],
        "signatures": [done.folder for done in signed],
        "drops": exact.folder if exact else None,
        "config": config,
    }
    return _task("candidates", pairs.candidates, arguments, identity)


def shingles_task(part: Cleaned, number: int, listed: Done, config: NearConfig) -> Task:
    """The n-grams of a part's documents that stand in a pair."""
    arguments = {"part": part.part, "number": number, "pairs": listed.folder, "config": config}
    return _task("shingles", pairs.shingles, arguments, [part.measures, listed.facts["parts"][number], config.ngram])


def near_task(
    cleaned: Sequence[Cleaned],
    exact: Done | None,
    listed: Done,
    shingled: Sequence[Done],
    config: NearConfig,
    *,
    drop: bool,
) -> Task:
    """Which of the pairs are near-duplicates."""
    identity = [_measures(cleaned), content(listed), _drops(exact), config.model_dump(mode="json"), drop]
    arguments = {
        "digests": [part.digests.folder for part in cleaned],
        "pairs": listed.folder,
        "shingled": [done.folder for done in shingled],
        "drops": exact.folder if exact else None,
        "config": config,
        "drop": drop,
    }
    return _task("near", dedup.near, arguments, identity)


def refused_task(part: Cleaned, encoder: Encoder) -> Task:
    """Which documents of a part no tokens will be made of."""
    arguments = {"part": part.part, "encoder": encoder}
    return _task("refused", refused.refused, arguments, [part.key, encoder.identity])


def assign_task(cleaned: Sequence[Cleaned], compared: Compared, plan: SplitPlan, refusals: Sequence[Done] = ()) -> Task:
    """Every document to its split."""
    near = compared.near
    arguments = {
        "digests": [part.digests.folder for part in cleaned],
        "drops": [done.folder for done in compared.done],
        "groups": near.folder if near else None,
        "plan": plan,
        "refused": [done.folder for done in refusals],
    }
    found = [[_drops(done) for done in compared.done], [hash_of(near, GROUPS), hash_of(near, ALIKE)] if near else None]
    identity = [_measures(cleaned), *found, astuple(plan), *_refusals(refusals)]
    return _task("assign", split.assign, arguments, identity)


def _refusals(refusals: Sequence[Done]) -> list[Any]:
    return [[hash_of(done, REFUSED), done.facts["refused"]] for done in refusals]


def _measures(cleaned: Sequence[Cleaned]) -> list[str]:
    return [part.measures for part in cleaned]


def _drops(done: Done | None) -> str | None:
    return hash_of(done, DROPS) if done else None


def _task(kind: str, function: Any, arguments: dict[str, Any], identity: Any) -> Task:
    return Task(kind, function, arguments, identity, VERSIONS[kind])
