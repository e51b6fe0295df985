"""The way of each part through `clean:`, as the pipeline plans it: a chain of tasks, done in one pass.

Where lines are dropped that many documents share, the chains are cut in two: they are counted in all parts before they
go from one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tilth.core.tasks import Done, Task
from tilth.data.config import DataConfig
from tilth.data.duplicates.minhash import MinHashConfig
from tilth.data.plans import leak_plan
from tilth.data.plans.workshop import Cleaned, Workshop, hash_of
from tilth.data.stages import build_stages
from tilth.data.tasks import cleaning
from tilth.data.tasks.parts import Part

VERSIONS = cleaning.VERSIONS
"""The version of each kind of task that is planned here: raised where its results change."""


def clean_parts(
    config: DataConfig, parts: Sequence[tuple[Done, str]], shop: Workshop, items: Done | None = None
) -> list[Cleaned]:
    """Each part through all stages, in one pass where nothing of it was done before.

    Args:
        items: the index of the evaluation files, where there are some.
    """
    stages = build_stages(config.clean)
    wanted = config.near if config.drops_near or config.keeps_together else None
    ways = [_Way(done, name, shop.workspace) for done, name in parts]
    for way in ways:
        for stage in stages:
            way.edit(way.task("clean", cleaning.clean, stage.identity(), stage=stage))
    if config.shared_lines is not None:
        _share(config, ways, shop)
    for way in ways:
        if items is not None:
            way.edit(leak_plan.decontaminate_task(way.part, way.before, items, config.decontaminate))
        way.compare(wanted)
    _run(ways, shop)
    return [way.cleaned(signed=wanted is not None) for way in ways]


class _Way:
    """What a part goes through: tasks that edit it, and others that look at what is left.

    Attributes:
        source: the name of the one that it is of.
        part, before: the part after what is planned so far, and the key of that.
        chain: what is planned, and not run yet.
        done: what was run.
    """

    def __init__(self, collected: Done, name: str, workspace: Path) -> None:
        self.part, self.before = Part(collected.folder, name), hash_of(collected, name)
        self._workspace = workspace
        self.source: str = collected.task.arguments["source"].source_name
        self.chain: list[Task] = []
        self.done: list[Done] = []

    def task(self, kind: str, function: Any, identity: Any, **arguments: Any) -> Task:
        """A task on the part as it is by then."""
        whole = [self.before, identity]
        return Task(kind, function, {"part": self.part, **arguments}, whole, cleaning.VERSIONS[kind])

    def edit(self, task: Task) -> None:
        """Plans a task that changes the part."""
        self.chain.append(task)
        stages = (*self.part.stages, task.folder(self._workspace))
        self.part, self.before = Part(self.part.folder, self.part.name, stages), task.key

    def compare(self, near: MinHashConfig | None) -> None:
        """Plans what deduplication compares."""
        self.chain.append(self.task("digest", cleaning.digests, None))
        if near is not None:
            config = MinHashConfig(**{key: getattr(near, key) for key in MinHashConfig.model_fields})
            identity = config.model_dump(mode="json")
            self.chain.append(self.task("signature", cleaning.signatures, identity, config=config))

    def cleaned(self, *, signed: bool) -> Cleaned:
        """The part at the end of its way."""
        editing = tuple(done for done in self.done if done.folder in self.part.stages)
        digested, *rest = self.done[-2:] if signed else self.done[-1:]
        return Cleaned(self.part, self.source, editing, digested, rest[0] if rest else None)


def _run(ways: Sequence[_Way], shop: Workshop) -> None:
    for way, done in zip(ways, shop.run_chains([way.chain for way in ways]), strict=True):
        way.done += done
        way.chain = []


def _share(config: DataConfig, ways: Sequence[_Way], shop: Workshop) -> None:
    """Cuts the ways in two: lines are counted in all parts, before those that many documents share go from each."""
    assert config.shared_lines is not None
    for way in ways:
        way.chain.append(leak_plan.lines_task(way.part, way.before, config.shared_lines))
    _run(ways, shop)
    listed = shop.run_one(leak_plan.shared_task([way.done[-1] for way in ways], config.shared_lines))
    for number, way in enumerate(ways):
        way.edit(leak_plan.shared_lines_task(way.part, way.before, number, listed, config.shared_lines))
