"""The run folder: what a training run leaves behind, and the records that it appends while it goes.

    RUN/recipe.json         the resolved recipe               RUN/data.json           the dataset it was trained on
    RUN/decisions.json      what was measured at the start    RUN/steps.jsonl         one StepRecord a line
    RUN/events.jsonl        evaluations, samples, checkpoints, messages
    RUN/checkpoints/        to resume from
    RUN/final/              the model, ready to use
    RUN/result.json         how the run ended; RUN/report.html is the same, for people

Records are plain lines of JSON, appended at once, and cut back to the step from which a run goes on: a resumed run's
files are those of a run that was never stopped (times apart).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth.core.config import differences
from tilth.core.errors import CheckpointError, IntegrityError, RecipeError
from tilth.core.files import FolderLock, disk, read_json, read_sealed, storage_errors, write_json, write_sealed


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimizer update."""

    step: int
    tokens: int
    loss: float
    grad_norm: float | None
    """Before clipping; None where it was not finite (fp16: the step was skipped)."""
    lr: float
    seconds: float
    data_wait_seconds: float
    tokens_per_second: float
    mfu: float | None
    memory_bytes: int
    skipped: int
    first_sample: int
    last_sample: int


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """A full pass over the validation split."""

    step: int
    metrics: dict[str, float]
    seconds: float
    best: bool


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """Text that the model wrote at a step."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A checkpoint that is durable by now."""

    step: int
    path: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Message:
    """Something that the user should know."""

    step: int
    level: str
    text: str


Event = StepRecord | EvaluationRecord | SampleRecord | CheckpointRecord | Message

CHANGEABLE = {
    *("train.steps", "train.tokens", "train.epochs", "train.hours", "train.early_stopping", "train.convergence"),
    *("train.final", "sample.every"),
}
"""What may differ when a run goes on: how long it lasts, what is shown and kept. The rest would make it another run."""
CHANGEABLE_SECTIONS = ("evaluate.", "sample.", "train.checkpoint.", "train.early_stopping.", "train.convergence.")


class RunFolder:
    """A run's folder, held by this process while it is open for training."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.final = path / "final"

    def lock(self) -> FolderLock:
        """A context in which no other process can use this folder."""
        return FolderLock(self.path, "the run folder")

    def claim(self, recipe: dict[str, Any], dataset: dict[str, Any]) -> list[str]:
        """Writes the recipe of a new run, or compares it with the one that made this folder.

        A folder that has no checkpoint yet is a new run: nothing in it depends on its recipe.
        Returns the differences that are allowed (a longer run, for example); RecipeError names the ones that are not.
        """
        begun = any(self.checkpoints.glob("step-*"))
        old = self.recipe() if begun and (self.path / "recipe.json").exists() else None
        changes = differences(old, recipe) if old is not None else []
        refused = [change for change in changes if not _may_change(change)]
        if refused:
            raise RecipeError(
                f"the run folder {self.path} was made by another recipe: " + "; ".join(refused),
                "name another folder with --run, or undo these changes",
            )
        old_data = read_json(self.path / "data.json") if (self.path / "data.json").exists() else None
        if begun and old_data is not None and old_data["fingerprint"] != dataset["fingerprint"]:
            raise CheckpointError(
                f"the run folder {self.path} was trained on other data ({old_data['folder']}, now {dataset['folder']})",
                "the text has changed: name another folder with --run, or bring the old text back",
            )
        write_json(self.path / "recipe.json", recipe)
        write_json(self.path / "data.json", dataset)
        return changes

    def decide(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was measured and decided when the run began, for the recipe and machine that `key` identifies."""
        path = self.path / "decisions.json"
        if not path.exists() or read_sealed(path)["key"] != key:
            write_sealed(path, {"key": key, **make()})
        return read_sealed(path)

    def sync(self) -> None:
        """Makes the records durable: a checkpoint must not outlive the records of its steps."""
        for name in ("steps.jsonl", "events.jsonl"):
            if (self.path / name).exists():
                with storage_errors(self.path):
                    disk.sync_file(self.path / name)

    def recipe(self) -> dict[str, Any]:
        """The resolved recipe of this run."""
        if not (self.path / "recipe.json").exists():
            raise RecipeError(
                f"{self.path} is not a run folder: it has no recipe.json", "name a folder made by `tilth train`"
            )
        recipe: dict[str, Any] = read_json(self.path / "recipe.json")
        return recipe

    def record(self, event: Event) -> None:
        """Appends an event to steps.jsonl or events.jsonl."""
        line = dataclasses.asdict(event)
        if not isinstance(event, StepRecord):
            line = {"kind": type(event).__name__.removesuffix("Record").lower(), **line}
        with storage_errors(self.path):
            disk.append(
                self._file_of(event),
                (json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace"),
            )

    def _file_of(self, event: Event) -> Path:
        return self.path / ("steps.jsonl" if isinstance(event, StepRecord) else "events.jsonl")

    def rewind(self, step: int) -> None:
        """Forgets what was recorded after `step`: those steps will be done again."""
        for name in ("steps.jsonl", "events.jsonl"):
            path = self.path / name
            if path.exists():
                kept = _bytes_up_to(path, step)
                if kept != path.stat().st_size:
                    with storage_errors(path):
                        disk.truncate(path, kept)

    def steps(self) -> list[StepRecord]:
        """All step records."""
        return [StepRecord(**line) for line in _lines(self.path / "steps.jsonl")]

    def last_step(self) -> int:
        """The last step that was recorded; 0 for a run that has none."""
        step = 0
        for line in _lines(self.path / "steps.jsonl"):
            step = line["step"]
        return step

    def events(self, kind: str) -> list[dict[str, Any]]:
        """All events of a kind: `evaluation`, `sample`, `checkpoint` or `message`."""
        return [line for line in _lines(self.path / "events.jsonl") if line["kind"] == kind]


def _may_change(change: str) -> bool:
    key = change.partition(":")[0]
    return key in CHANGEABLE or key.startswith(CHANGEABLE_SECTIONS)


def _bytes_up_to(path: Path, step: int) -> int:
    """Bytes of the leading lines that are whole and not after `step`."""
    size = 0
    with path.open("rb") as file:
        for line in file:
            try:
                if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                    break
            except (ValueError, KeyError, TypeError):
                break
            size += len(line)
    return size


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return  # the process was killed while it wrote: that record was never whole
            try:
                yield json.loads(line)
            except ValueError:
                raise IntegrityError(f"{path}:{number} is not JSON", "remove that line, or restore the file") from None
