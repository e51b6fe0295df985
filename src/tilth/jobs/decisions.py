"""What a run measures at its start, once, and what may change while it goes on.

    Decisions(recipe, …).take(name, measure)     the checkpoint's, or the folder's, or measured now and written down
    asked_of(recipe)                             what may change while a run goes on: kept with every checkpoint
    changed(identity, checkpoint)                what has changed since the run began

A run that is killed and begins anew must not measure, and perhaps decide, otherwise. Nor must it use other rows in the
steps that it does again, where memory was refused to more: `fewer_rows` says which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from tilth.checkpoint.store import Checkpoint
from tilth.core.config import fingerprint
from tilth.core.errors import IntegrityError
from tilth.core.rundir import RunFolder
from tilth.distributed.runtime import Runtime
from tilth.jobs.recipe import Recipe

Decision = Literal["micro_rows", "precision", "compile"]

_ASKED_BY: dict[Decision, tuple[str, ...]] = {
    "micro_rows": ("micro_batch", "memory"),
    "precision": ("precision",),
    "compile": ("compile",),
}
"""What is decided at the start, and the keys of the recipe that ask for it, that which may be `auto` first."""
_ROUNDING = ("device", "micro_batch", "memory", "precision", "compile")
_LIMITS = ("steps", "tokens", "epochs", "hours", "early_stopping", "convergence")


class Decisions:
    """What a run of this recipe decides here, going on from this checkpoint, if any. Process 0 decides for all.

    Args:
        device: its name: what was measured on another says nothing.
    """

    def __init__(
        self, recipe: Recipe, folder: RunFolder, runtime: Runtime, device: str, checkpoint: Checkpoint | None
    ) -> None:
        self._kept = _kept(recipe, checkpoint)
        self._folder, self._runtime = folder, runtime
        self._key = fingerprint([recipe.plain(), runtime.world_size, device, self._kept])
        within = f" in {recipe.train.memory}" if recipe.train.memory else ""
        self._rows_key = f"micro_batch {recipe.train.micro_batch}{within}, {device} x {runtime.world_size}"

    def take(self, name: Decision, measure: Callable[[], Any]) -> Any:
        """The decision of the checkpoint, as long as the recipe has not opened it again; else that of the folder, if
        it began so; else `measure`'s, done in process 0 and durable when this returns.
        """
        if name in self._kept:
            return self._kept[name]
        return self._runtime.from_main(lambda: self._folder.decide(self._key, name, measure))

    def known(self, name: Decision) -> Any:
        """The decision of the checkpoint that stands; None where there is none yet."""
        return self._kept.get(name)

    def fewer_rows(self) -> tuple[dict[int, int], list[str]]:
        """From which step on fewer rows go through the model at once; and a line where that cannot be read."""

        def look() -> tuple[list[tuple[int, int]], list[str]]:
            try:
                return list(self._folder.fewer_rows(self._rows_key).items()), []
            except IntegrityError as error:
                return [], [f"{error.message}; where memory is refused again, fewer rows are taken again"]

        pairs, warnings = self._runtime.from_main(look)
        return dict(pairs), warnings

    def keep_rows(self, step: int, rows: int) -> None:
        """Makes durable that from `step` on so many rows go through the model at once; for process 0."""
        self._folder.keep_fewer_rows(self._rows_key, step, rows)


def asked_of(recipe: Recipe) -> dict[str, Any]:
    """What may change while a run goes on, and does so to its weights: kept with every checkpoint."""
    plain = recipe.plain()
    asked = {key: plain["train"][key] for key in (*_ROUNDING, *_LIMITS)}
    if recipe.train.micro_batch != "auto":
        asked["memory"] = None  # nothing that rounds otherwise goes by it
    if recipe.train.early_stopping:  # it counts evaluations
        asked["early_stopping"]["every"] = recipe.evaluate.every
    return asked


def _kept(recipe: Recipe, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """The decisions of a checkpoint that the recipe has not opened again: by asking for something else, or for `auto`
    on another device.
    """
    if checkpoint is None:
        return {}
    state, now = checkpoint.state(), asked_of(recipe)
    before = _asked_before(state, now)
    moved = before["device"] != now["device"]
    kept: dict[str, Any] = {}
    for decision, keys in _ASKED_BY.items():
        if all(before[key] == now[key] for key in keys) and not (moved and now[keys[0]] == "auto"):
            kept[decision] = state.get(decision, False)
    return kept


def _asked_before(state: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint's run was asked for; before there was `compile` nothing was compiled, and before there was
    `memory` all might be taken.
    """
    return {"compile": False, "memory": None, **state["identity"].get("asked", now)}


def changed(now: dict[str, Any], checkpoint: Checkpoint | None) -> list[str]:
    """What has changed since the run began, now or on an earlier going on: `rounding`, `limits`."""
    if checkpoint is None:
        return []
    before = checkpoint.state()["identity"]
    found, asked = set(before.get("changed", [])), _asked_before(checkpoint.state(), now["asked"])
    if before["environment"] != now["environment"] or before["world_size"] != now["world_size"]:
        found.add("rounding")
    for kind, keys in (("rounding", _ROUNDING), ("limits", _LIMITS)):
        if any(asked[key] != now["asked"][key] for key in keys):
            found.add(kind)
    return sorted(found)
