"""The tasks of shared lines and of decontamination, as the pipeline plans them: what decides the name of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilth.core.tasks import Done, Task
from tilth.data.conversations import Encoder
from tilth.data.duplicates.shared_lines import SharedLinesConfig
from tilth.data.leaks.decontaminate import DecontaminateConfig
from tilth.data.plans.collect_plan import read_as
from tilth.data.plans.workshop import content
from tilth.data.sources import Listing
from tilth.data.tasks import items, leaks, shared
from tilth.data.tasks.parts import Part
from tilth.data.tasks.split import AssignedPart

VERSIONS = {**items.VERSIONS, **leaks.VERSIONS, **shared.VERSIONS}
"""The version of each kind of task that is planned here: raised where its results change."""
_HOSTS = 3  # parts of which documents are planted into: the first, one in the middle, the last


def lines_task(part: Part, before: str, config: SharedLinesConfig) -> Task:
    """Counts the lines of a part; `before` is the key of what the part is then."""
    counted = {key: getattr(config, key) for key in ("characters", "unit", "indented", "code")}
    return _task("lines", shared.lines, {"part": part, "config": config}, [before, counted], shared.VERSIONS)


def shared_task(counted: Sequence[Done], config: SharedLinesConfig) -> Task:
    """Which lines go, of all parts."""
    identity = [[content(done) for done in counted], config.documents, config.keep]
    arguments = {"counted": [done.folder for done in counted], "config": config}
    return _task("shared", shared.shared, arguments, identity, shared.VERSIONS)


def shared_lines_task(part: Part, before: str, number: int, listed: Done, config: SharedLinesConfig) -> Task:
    """Takes them out of a part."""
    arguments = {"part": part, "number": number, "listed": listed.folder, "config": config}
    # How many documents, and which keeps a line, has decided the list.
    left = config.model_dump(mode="json", exclude={"documents", "keep"})
    identity = [before, listed.facts["parts"][number], left]
    return _task("shared_lines", shared.shared_lines, arguments, identity, shared.VERSIONS)


def items_task(config: DecontaminateConfig, listings: Sequence[Listing]) -> Task:
    """Indexes the evaluation files; `listings` are those of each source of `config.against`."""
    sources, identity = [], []
    for source, listing in zip(config.against, listings, strict=True):
        sources.append((source, listing.inputs))
        identity.append([read_as(source, listing.inputs), [item.identity() for item in listing.inputs]])
    arguments = {"sources": sources, "ngram": config.ngram, "shortest": config.shortest}
    whole = [identity, config.ngram, config.shortest]
    return _task("items", items.evaluation_items, arguments, whole, items.VERSIONS)


def decontaminate_task(part: Part, before: str, index: Done, config: DecontaminateConfig) -> Task:
    """Takes out of a part what holds an evaluation item."""
    arguments = {"part": part, "index": index.folder, "config": config}
    identity = [before, content(index), _rule(config)]
    return _task("decontaminate", leaks.decontaminate, arguments, identity, leaks.VERSIONS)


def _rule(config: DecontaminateConfig) -> dict[str, Any]:
    """What decides about a document, once the items are known."""
    return {key: getattr(config, key) for key in ("ngram", "share", "words", "shortest", "action", "margin")}


def held_out_task(part: AssignedPart, key: str, config: DecontaminateConfig, encoder: Encoder | None) -> Task:
    """The n-grams that a part holds out; `key` is that of its documents and their splits."""
    arguments = {"part": part, "ngram": config.ngram, "shortest": config.shortest, "encoder": encoder}
    identity = [key, config.ngram, config.shortest, *([encoder.identity] if encoder is not None else [])]
    return _task("held_out", items.held_out_items, arguments, identity, items.VERSIONS)


def held_out_index_task(runs: Sequence[Done]) -> Task:
    """Those of all parts."""
    arguments, identity = {"runs": [done.folder for done in runs]}, [content(done) for done in runs]
    return _task("held_out_index", items.held_out_index, arguments, identity, items.VERSIONS)


def hits_task(part: AssignedPart, key: str, index: Done, margin: int) -> Task:
    """Where the training documents of a part hold them."""
    arguments = {"part": part, "index": index.folder, "margin": margin}
    return _task("hits", leaks.hits, arguments, [key, content(index), margin], leaks.VERSIONS)


def leaks_task(
    digests: Sequence[Done],
    assigned: Done,
    parts: Sequence[tuple[AssignedPart, str]],
    index: Done,
    found: Sequence[Done],
    config: DecontaminateConfig,
) -> Task:
    """Which training documents go; `parts` come with the keys of their documents and splits."""
    arguments = {
        "digests": [done.folder for done in digests],
        "parts": [part for part, _ in parts],
        "index": index.folder,
        "found": [done.folder for done in found],
        "config": config,
    }
    identity = [
        [key for _, key in parts],
        content(assigned),
        content(index),
        [content(done) for done in found],
        {**_rule(config), "common": config.common, "most": config.most_of_training},
    ]
    return _task("leaks", leaks.leaks, arguments, identity, leaks.VERSIONS)


def recall_task(
    index: Done,
    hosts: Sequence[Part | AssignedPart],
    keys: Sequence[str],
    leaked: Done | None,
    config: DecontaminateConfig,
) -> Task:
    """How well planted items are found; `keys` are those of the parts."""
    chosen = sorted({0, len(hosts) // 2, len(hosts) - 1})[:_HOSTS]
    arguments = {
        "index": index.folder,
        "hosts": [hosts[n] for n in chosen],
        "leaked": leaked.folder if leaked else None,
        "config": config,
    }
    identity = [content(index), [keys[n] for n in chosen], content(leaked) if leaked else None, _rule(config)]
    return _task("recall", leaks.recall, arguments, identity, leaks.VERSIONS)


def _task(kind: str, function: Any, arguments: dict[str, Any], identity: Any, versions: dict[str, int]) -> Task:
    return Task(kind, function, arguments, identity, versions[kind])
