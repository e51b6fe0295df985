"""The run folder: what a training run leaves behind, and the records that it appends while it goes.

    RUN/recipe.json         the resolved recipe               RUN/data.json           the dataset it was trained on
    RUN/decisions.json      what was measured at the start    RUN/steps.jsonl         one StepRecord a line
    RUN/fewer_rows.json     from which step on fewer rows go through the model at once, because memory was refused
    RUN/config.json         the model's shape, as RUN/tokenizer/ its tokenizer: what the checkpoints need to be used
    RUN/identity.json       the hashes of these
    RUN/events.jsonl        evaluations, samples, checkpoints, messages
    RUN/*.jsonl.damaged     records as they were before a line that cannot be read was left out of them
    RUN/checkpoints/        to resume from
    RUN/final/              the model, ready to use
    RUN/result.json         how the run ended; RUN/report.html is the same, for people

Records are plain lines of JSON, appended at once, and cut back to the step from which a run goes on: a resumed run's
files are those of a run that was never stopped (times apart).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth.core.config import differences
from tilth.core.errors import CheckpointError, IntegrityError, RecipeError
from tilth.core.files import (
    FolderLock,
    disk,
    free_name,
    is_leftover,
    read_json,
    read_sealed,
    remove_leftovers,
    require_utf8,
    storage_errors,
    write_file,
    write_json,
    write_sealed,
)


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
    *("train.final", "train.price_per_hour", "sample.every"),
    *("train.micro_batch", "train.device", "train.precision", "train.compile", "train.activation_checkpointing"),
    "train.memory",
}
"""What may differ when a run goes on: how long it lasts, what is shown and kept, and what only rounds otherwise. The
rest would make it another run."""
_RECORDS = ("steps.jsonl", "events.jsonl")
_FILES = ("recipe", "data", "decisions", "fewer_rows", "config", "identity", "result", "xz", "answers")
_NAMES = "|".join([*(rf"{name}\.json" for name in _FILES), *map(re.escape, _RECORDS), r"report\.html", "final"])
CHANGEABLE_SECTIONS = ("evaluate.", "sample.", "train.checkpoint.", "train.early_stopping.", "train.convergence.")


class RunFolder:
    """A run's folder, held by this process while it is open for training."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.final = path / "final"
        self._gives_way: tuple[int, int] | None = None
        """Bytes of events.jsonl, from and to, that the next evaluation takes the place of."""

    def lock(self) -> FolderLock:
        """A context in which no other process can use this folder."""
        return FolderLock(self.path, "the run folder")

    def check(self) -> None:
        """RecipeError when the folder holds things that are no run's: what a run writes must not mix with them.
        StorageError when it cannot be made, or not be written.
        """
        _check_writable(self.path)
        with storage_errors(self.path):
            if not self.path.is_dir() or (self.path / "recipe.json").exists():
                return
            names = [path.name for path in self.path.iterdir()]
        others = sorted(name for name in names if name != ".lock" and not is_leftover(name, _NAMES))
        if others:
            shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
            raise RecipeError(
                f"{self.path} is not a run folder, and not empty: it holds {shown}",
                "name a new folder, or an empty one, with --run",
            )

    def remove_leftovers(self) -> None:
        """Removes what a killed process left half-made here; for whoever holds the lock."""
        remove_leftovers(self.path, _NAMES)
        remove_leftovers(self.path / "tokenizer", r"tokenizer(?:_config)?\.json")

    @property
    def begun(self) -> bool:
        """Whether anything was trained here: a step that was recorded, a checkpoint (damaged or not), a final model."""
        records = self.path / "steps.jsonl"
        trained = self.final.exists() or (self.path / "result.json").exists() or any(self.checkpoints.glob("step-*"))
        return trained or (records.exists() and records.stat().st_size > 0)

    def claim(
        self,
        recipe: dict[str, Any],
        dataset: dict[str, Any],
        resolve: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> list[str]:
        """Writes the recipe of a new run, or compares it with the one that made this folder.

        A folder in which nothing was trained yet is a new run: nothing in it depends on its recipe.
        Returns the differences that are allowed (a longer run, for example); RecipeError names the ones that are not.

        Args:
            resolve: brings the recipe that lies here to today's schema; what it did not know has today's default.
        """
        changes = self.changes(recipe, resolve)
        if not self.begun and (self.path / "fewer_rows.json").exists():
            with storage_errors(self.path):
                disk.remove(self.path / "fewer_rows.json")
        old = self._data() if self.begun else None
        if old is not None and old["fingerprint"] != dataset["fingerprint"]:
            raise CheckpointError(
                f"the run folder {self.path} was trained on other data ({old['folder']}, now {dataset['folder']})",
                "the text has changed, or a newer tilth makes other data of it (CHANGELOG.md): name another folder "
                "with --run, or bring the old text, or the tilth that began the run, back",
            )
        write_json(self.path / "recipe.json", recipe)
        write_json(self.path / "data.json", dataset)
        return changes

    def changes(self, recipe: dict[str, Any], resolve: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> list[str]:
        """The differences between the recipe that made this folder and `recipe`; RecipeError names those that make it
        another run. None while nothing was trained here.
        """
        if not (self.begun and (self.path / "recipe.json").exists()):
            return []
        changes = differences(resolve(self.recipe()), recipe)
        refused = [change for change in changes if not _may_change(change)]
        if refused:
            raise RecipeError(
                f"the run folder {self.path} was made by another recipe: " + "; ".join(refused),
                "name another folder with --run, or undo these changes",
            )
        return changes

    def _data(self) -> dict[str, Any] | None:
        """What data.json says; None when it is gone or damaged: every checkpoint names the data as well."""
        try:
            facts = read_json(self.path / "data.json")
        except IntegrityError:
            return None
        return facts if isinstance(facts, dict) and {"folder", "fingerprint"} <= facts.keys() else None

    def decide(self, key: str, name: str, make: Callable[[], Any]) -> Any:
        """What was measured and decided when the run began, for the recipe and machine that `key` identifies; made and
        written down where it was not.
        """
        path = self.path / "decisions.json"
        try:
            kept = read_sealed(path) if path.exists() else {}
        except IntegrityError as error:
            raise IntegrityError(error.message, f"remove {path}: precision and rows are then measured again") from None
        kept = kept if kept.get("key") == key else {"key": key}
        if name not in kept:
            kept[name] = make()
            write_sealed(path, kept)
        return kept[name]

    def fewer_rows(self, key: str) -> dict[int, int]:
        """Rows that went through the model at once from a step on, where memory was refused to more; a run that goes on
        before that step does the same again, to the same bits.

        Args:
            key: what was asked for, and where: elsewhere it says nothing.
        """
        path = self.path / "fewer_rows.json"
        return dict(read_sealed(path).get(key, [])) if path.exists() else {}

    def keep_fewer_rows(self, key: str, step: int, rows: int) -> None:
        """Notes that from `step` on (from 0) so many rows go through the model at once; durable when it returns. A note
        that cannot be read, which was told when the run began, is written anew: no step may be lost for it.
        """
        path, before = self.path / "fewer_rows.json", {}
        with contextlib.suppress(IntegrityError):  # not there yet, or damaged
            before = read_sealed(path)
        write_sealed(path, {**before, key: sorted({**dict(before.get(key, [])), step: rows}.items())})

    def sync(self) -> None:
        """Makes the records durable: a checkpoint must not outlive the records of its steps."""
        for name in _RECORDS:
            if (self.path / name).exists():
                with storage_errors(self.path):
                    disk.sync_file(self.path / name)
        with storage_errors(self.path):
            disk.sync_folder(self.path)  # a file whose name is lost is lost

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
        data = (json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")
        if isinstance(event, EvaluationRecord) and self._gives_way:
            self._replace(*self._gives_way, data)
            self._gives_way = None
            return
        with storage_errors(self.path):
            disk.append(self._file_of(event), data)

    def _replace(self, begin: int, end: int, data: bytes) -> None:
        """Takes these bytes out of events.jsonl, and puts `data` at its end."""
        path = self.path / "events.jsonl"
        write_file(path, itertools.chain(_lines_between(path, 0, begin), _lines_between(path, end), [data]))

    def _file_of(self, event: Event) -> Path:
        return self.path / ("steps.jsonl" if isinstance(event, StepRecord) else "events.jsonl")

    def rewind(self, step: int, *, evaluated: bool = True) -> list[str]:
        """Forgets what was recorded after `step`: those steps will be done again. So will the evaluation of `step`,
        unless it is `evaluated`: what is recorded of it, and came after it until now, gives way to the next record of
        an evaluation, and not before: that pass may be broken off.

        A line that cannot be read does not take others with it: it is left out, and the file as it was stays beside the
        new one. Returns a line on each file in which that happened. Only a last line without its end, which a killed
        process never finished, goes without a word.
        """
        said = [said for name in _RECORDS if (said := self._rewind(self.path / name, step))]
        self._gives_way = None if evaluated else _evaluation_of(self.path / "events.jsonl", step)
        return said

    def _rewind(self, path: Path, step: int) -> str:
        if not path.exists():
            return ""
        size, bad = _up_to(path, step)
        with storage_errors(path):
            if not bad:
                if size != path.stat().st_size:
                    disk.truncate(path, size)
                return ""
            aside = free_name(path, "damaged")
            disk.link(path, aside)
            write_file(path, (line for line in _lines_between(path, 0, size) if _step_of(line) is not None))
        lines = ", ".join(map(str, bad[:5])) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        return f"{path.name}: line {lines} cannot be read and is left out; the file as it was is kept as {aside.name}"

    def steps(self) -> list[StepRecord]:
        """All step records."""
        path = self.path / "steps.jsonl"
        try:
            return [StepRecord(**line) for line in _lines(path)]
        except TypeError as error:
            raise IntegrityError(f"{path} holds a line that is no record of a step: {error}", _MEND) from None

    def last_step(self) -> int:
        """The last step that was recorded and can be read; 0 for a run that has none."""
        path = self.path / "steps.jsonl"
        if not path.exists():
            return 0
        with path.open("rb") as file:
            return max((step for line in file if (step := _step_of(line)) is not None), default=0)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """All events of a kind: `evaluation`, `sample`, `checkpoint` or `message`."""
        return [line for line in _lines(self.path / "events.jsonl") if line.get("kind") == kind]


def _check_writable(folder: Path) -> None:
    """StorageError when a folder could not be made or written; nothing is touched."""
    require_utf8(folder)
    with storage_errors(folder):
        with contextlib.suppress(FileNotFoundError):
            folder.lstat()  # a name that is too long; a file among its parents
        nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))
        if not nearest.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _may_change(change: str) -> bool:
    key = change.partition(":")[0]
    return key in CHANGEABLE or key.startswith(CHANGEABLE_SECTIONS)


def _up_to(path: Path, step: int) -> tuple[int, list[int]]:
    """Bytes of the lines up to the first that is after `step`, and the numbers of those among them that cannot be
    read.
    """
    size, bad = 0, []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            found = _step_of(line)
            # Without its end the process was killed while it wrote: that record was never whole.
            if not line.endswith(b"\n") or (found is not None and found > step):
                break
            if found is None:
                bad.append(number)
            size += len(line)
    return size, bad


def _evaluation_of(path: Path, step: int) -> tuple[int, int] | None:
    """Where the first record of an evaluation of `step` begins, and where the file ends; None where there is none."""
    begin = 0
    for line in _lines_between(path, 0) if path.exists() else ():
        if _step_of(line) == step and json.loads(line).get("kind") == "evaluation":
            return begin, path.stat().st_size
        begin += len(line)
    return None


def _lines_between(path: Path, begin: int, end: float = math.inf) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(begin)
        while file.tell() < end and (line := file.readline()):
            yield line


def _step_of(line: bytes) -> int | None:
    """The step of a record; None for a line that is none."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    return step if isinstance(step, int) else None


_MEND = "type the command that trained it: it leaves that line out, and keeps the file as it was beside it"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # the process was killed while it wrote: that record was never whole
            if _step_of(line) is None:
                raise IntegrityError(f"{path}:{number} is no record that tilth wrote", _MEND)
            yield json.loads(line)
