"""Checkpoints that survive being killed: saved whole or not at all, and trusted only after every hash was compared.

    store.save(step, tensors, state)   RUN/checkpoints/step-00000500/
    store.same(step, manifest)         the one that another process has verified
    store.latest()                     the newest that verifies; bad ones are set aside by name, never deleted
    store.note_evaluation(step, …)     what an evaluation came to that a signal had broken off
    store.prune(keep)                  removes the older ones, but for the best

A checkpoint is `model.safetensors`, `optimizer.safetensors`, `state.json` and `manifest.json` (size and SHA-256 of
each), written into a temporary folder beside its place, fsynced, renamed, and the parent fsynced. Only `evaluated.json`
may come later.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tilth.checkpoint.tensors import read_tensors, write_tensors
from tilth.core.errors import CheckpointError, IntegrityError, StorageError, TilthError
from tilth.core.files import (
    MANIFEST,
    disk,
    free_name,
    hash_file,
    new_folder,
    read_json,
    read_manifest,
    read_sealed,
    remove_leftovers,
    storage_errors,
    verify_manifest,
    write_json,
    write_sealed,
)

_NAME = re.compile(r"step-(\d{8,})")
BEST = "best.json"
EVALUATED = "evaluated.json"
_ONE_FOLDER = "all processes of a run must see the same run folder: name one on a disk that they share with --run"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose bytes were verified."""

    path: Path
    step: int

    @property
    def manifest(self) -> str:
        """The SHA-256 of its manifest, and so of all that it holds."""
        return hash_file(self.path / MANIFEST)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors saved under `name` (`model` or `optimizer`)."""
        return read_tensors(self.path / f"{name}.safetensors")

    def state(self) -> dict[str, Any]:
        """What was saved beside the tensors; with what an evaluation that was made later came to, where that can be
        read: else it is made again.
        """
        state: dict[str, Any] = read_json(self.path / "state.json")
        with contextlib.suppress(TilthError):
            state |= {"progress": read_sealed(self.path / EVALUATED)["progress"], "unevaluated": False}
        return state


class CheckpointStore:
    """The checkpoints of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: dict[str, Any]) -> Path:
        """Saves durably; returns the folder. CheckpointError when the disk refuses: earlier ones are untouched."""
        final = self._path(step)
        try:
            with new_folder(final, {"step": step}) as folder:
                for name, group in tensors.items():
                    write_tensors(folder / f"{name}.safetensors", group)
                write_json(folder / "state.json", state)
        except StorageError as error:
            raise CheckpointError(f"could not save step {step}: {error.message}", error.remedy) from error
        return final

    def latest(self, *, set_aside: bool = True) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that verifies, and a line for each newer one that did not.

        Args:
            set_aside: give the damaged ones another name; only for the one process that holds the run folder.

        Raises:
            CheckpointError: there are some, and none verifies; all keep their names.
        """
        bad: list[tuple[Path, str]] = []
        for step, path in sorted(self._all(), reverse=True):
            try:
                found = self._verified(path, step)
            except CheckpointError as error:
                bad.append((path, error.message))
                continue
            done = (f"set aside as {self._set_aside(path).name}" if set_aside else "passed over" for path, _ in bad)
            return found, [f"{message}; {then}" for (_, message), then in zip(bad, done, strict=True)]
        if bad:
            more = f" (and {len(bad) - 3} more)" if len(bad) > 3 else ""
            raise CheckpointError(
                f"no checkpoint in {self.folder} verifies: {'; '.join(message for _, message in bad[:3])}{more}",
                "bring one of them back from a copy; to train anew, name another folder with --run, or remove "
                f"{self.folder.parent}",
            )
        return None, []

    def at(self, step: int) -> Checkpoint:
        """The checkpoint of a step, verified; CheckpointError when there is none or it is damaged."""
        if not self._path(step).is_dir():
            there = ", ".join(str(s) for s, _ in sorted(self._all())) or "none"
            raise CheckpointError(f"no checkpoint of step {step} in {self.folder}", f"choose one that exists: {there}")
        return self._verified(self._path(step), step)

    def same(self, step: int, manifest: str) -> Checkpoint:
        """The checkpoint that another process has verified: by manifest and sizes, for its bytes, which may be many,
        were hashed there. CheckpointError when there is another one here, or none.
        """
        found = Checkpoint(self._path(step), step)
        try:
            read_manifest(found.path)
            same = found.manifest == manifest
        except IntegrityError as error:
            raise CheckpointError(f"{found.path} is damaged: {error.message}", _ONE_FOLDER) from error
        if not same:
            raise CheckpointError(f"{found.path} is not the checkpoint that process 0 of this run has", _ONE_FOLDER)
        return found

    def note_evaluation(self, step: int, progress: dict[str, Any]) -> None:
        """Adds to the checkpoint of `step`, which was saved within its evaluation, what that came to; durably. Its own
        files stay as they are: at no moment is it not whole.
        """
        remove_leftovers(self._path(step), re.escape(EVALUATED))
        write_sealed(self._path(step) / EVALUATED, {"progress": progress})

    def best(self) -> Checkpoint | None:
        """The checkpoint with the best validation metric, verified; None before the first evaluation."""
        if not (self.folder / BEST).exists():
            return None
        return self.at(read_sealed(self.folder / BEST)["step"])

    def mark_best(self, step: int, metric: str, value: float) -> None:
        """Remembers that the checkpoint of `step` is the best so far; a mark on one that is not there is taken away."""
        mark = self.folder / BEST
        if self._path(step).is_dir():
            write_sealed(mark, {"step": step, "metric": metric, "value": value})
        elif mark.exists() and not self._path(read_sealed(mark)["step"]).is_dir():
            with storage_errors(mark):
                disk.remove(mark)

    def prune(self, keep: int) -> None:
        """Removes all but the newest `keep` checkpoints and the best; also what a kill left half-written."""
        protected = {read_sealed(self.folder / BEST)["step"]} if (self.folder / BEST).exists() else set()
        old = [path for step, path in sorted(self._all())[:-keep] if step not in protected]
        with storage_errors(self.folder):
            for path in old:
                # Renamed first: whoever looks for checkpoints meanwhile sees it whole or not at all.
                disk.rename(path, path.with_name(f".{path.name}.old.tmp"))
        remove_leftovers(self.folder, rf"{_NAME.pattern}|{re.escape(BEST)}")

    def _verified(self, path: Path, step: int) -> Checkpoint:
        try:
            verify_manifest(path)
        except IntegrityError as error:
            raise CheckpointError(f"{path} is damaged: {error.message}", "use an earlier checkpoint") from error
        return Checkpoint(path, step)

    def _set_aside(self, path: Path) -> Path:
        aside = free_name(path, "damaged")
        with storage_errors(path):
            disk.rename(path, aside)
            disk.sync_folder(self.folder)
        return aside

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _all(self) -> list[tuple[int, Path]]:
        if not self.folder.is_dir():
            return []
        found = [(_NAME.fullmatch(path.name), path) for path in self.folder.iterdir() if path.is_dir()]
        return [(int(match[1]), path) for match, path in found if match]
