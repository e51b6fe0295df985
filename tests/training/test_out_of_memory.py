"""A step to which memory was refused is done again with fewer rows: same gradient, no step lost or counted twice."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.helpers import equal, make_trainer, train_config, weights
from tilth.checkpoint.store import CheckpointStore
from tilth.core.errors import RecipeError
from tilth.core.rundir import EvaluationRecord, Event, Message, StepRecord
from tilth.data.batches.batch import Batch
from tilth.data.batches.feed import Feed
from tilth.distributed.refused import OutOfMemory, is_of_memory
from tilth.training import step as step_module
from tilth.training.step import one_pass
from tilth.training.trainer import Trainer

pytestmark = pytest.mark.slow

UNSAVED = train_config(checkpoint={"every_steps": None, "every_minutes": None, "best": False})

REFUSALS: dict[str, Callable[[], Exception]] = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
    "cpu": lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    "numpy": lambda: MemoryError("Unable to allocate 8.00 GiB"),
    "c++": lambda: RuntimeError("std::bad_alloc"),
    "cublas": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
}


class Short:
    """A machine that, at these steps (from 0), refuses memory to more than so many rows: in the last micro-batch, so
    that others have left their gradients, on the way forward or back.
    """

    def __init__(self, trainer: Trainer, room: dict[int, int], error: str = "cuda", where: str = "forward") -> None:
        self.trainer, self.room, self.error, self.where = trainer, room, REFUSALS[error], where
        self.tries: list[int] = []
        self.seen = 0

    def __call__(self, hidden_BTD: Tensor, *rest: Any, **options: Any) -> Tensor:
        rows, step = len(hidden_BTD), self.trainer.progress.step
        self.seen += rows
        last = self.seen >= 6
        self.seen = 0 if last else self.seen
        if last and rows > self.room.get(step, 6):
            self.tries.append(rows)
            if self.where == "forward":
                raise self.error()
            hidden_BTD = hidden_BTD.clone()
            hidden_BTD.register_hook(self._refuse)
        return summed_loss(hidden_BTD, *rest, **options)

    def _refuse(self, gradient: Tensor) -> None:
        raise self.error()


summed_loss = step_module.summed_loss


@contextlib.contextmanager
def short(trainer: Trainer, room: dict[int, int], **how: str) -> Iterator[Short]:
    with pytest.MonkeyPatch.context() as patch:
        machine = Short(trainer, room, **how)
        patch.setattr(step_module, "summed_loss", machine)
        yield machine


def differ(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def told(events: list[Event]) -> list[tuple[int, int, int]]:
    return [(e.step, e.first_sample, e.last_sample) for e in events if isinstance(e, StepRecord)]


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_whole_batch_pieces_and_steps_done_again_give_the_same_weights(tmp_path: Path, where: str) -> None:
    """With dropout, whose masks do not depend on the cut."""
    events: list[Event] = []
    plain = make_trainer(tmp_path / "plain", UNSAVED, micro_rows=6)
    pieces = make_trainer(tmp_path / "pieces", UNSAVED, micro_rows=2)
    again = make_trainer(tmp_path / "again", events=events, micro_rows=6)
    assert plain.run() == pieces.run() == "steps"
    with short(again, {3: 3, 6: 1}, where=where) as machine:
        assert again.run() == "steps"
    assert machine.tries == [6, 3, 2], "six rows, half of them in step 7, and half of these"
    assert differ(weights(plain), weights(pieces)) < 1e-5
    assert differ(weights(plain), weights(again)) < 1e-5
    assert told(events) == [(n + 1, 6 * n, 6 * n + 5) for n in range(10)], "no step is lost, none done twice"
    said = [(e.step, e.text) for e in events if isinstance(e, Message) and e.level == "warning"]
    assert [step for step, _ in said] == [4, 7, 7]
    assert said[0][1] == (
        "out of memory with 6 rows at once (CUDA out of memory. Tried to allocate 2.00 GiB.): "
        "step 4 is done again with 3, on the same samples; so are those after it"
    )
    rows = [again.parts.store.at(step).state()["micro_rows"] for step in range(1, 11)]
    assert rows == [6, 6, 6, 3, 3, 3, 1, 1, 1, 1]


def test_without_clearing_what_the_failed_try_left_the_weights_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above."""
    plain, again = (make_trainer(tmp_path / name, UNSAVED, micro_rows=3) for name in ("plain", "again"))
    plain.run()
    monkeypatch.setattr(step_module, "forget", lambda model, device: None)
    with short(again, {3: 2}):
        again.run()
    assert differ(weights(plain), weights(again)) > 1e-3


@pytest.mark.parametrize("error", REFUSALS)
def test_memory_is_refused_in_many_words(tmp_path: Path, error: str) -> None:
    trainer = make_trainer(tmp_path, UNSAVED, micro_rows=6)
    with short(trainer, {0: 3}, error=error) as machine:
        assert trainer.run() == "steps"
    assert machine.tries == [6] and trainer.parts.micro_rows == 3
    assert is_of_memory(REFUSALS[error]()) and not is_of_memory(RuntimeError("shapes cannot be multiplied"))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step_done_again_has_the_bits_of_one_that_began_so(tmp_path: Path, precision: str) -> None:
    """Those of the rows at once with which it is done at last."""
    again = make_trainer(tmp_path / "again", UNSAVED, precision=precision, micro_rows=6)
    with short(again, {3: 2}):
        again.run()
    planned, other = (
        make_trainer(tmp_path / name, UNSAVED, precision=precision, micro_rows=6) for name in ("planned", "other")
    )
    planned.parts.fewer_rows = {3: 2}
    other.parts.fewer_rows = {4: 2}
    planned.run()
    other.run()
    assert equal(weights(again), weights(planned)) and not equal(weights(again), weights(other))


def test_going_on_before_or_after_it_gives_the_same_bits(tmp_path: Path) -> None:
    """Memory is not refused any more: what was noted makes the steps the same."""
    noted: dict[int, int] = {}
    whole = make_trainer(tmp_path, micro_rows=6)
    whole.parts.keep_rows = noted.__setitem__
    with short(whole, {3: 3, 6: 2}):
        whole.run()
    assert noted == {3: 3, 6: 2}
    for step in (1, 3, 6, 7):
        for known in (True, False):
            state = whole.parts.store.at(step).state()
            trainer = make_trainer(tmp_path, UNSAVED, micro_rows=state["micro_rows"])
            trainer.parts.fewer_rows = noted if known else {}
            trainer.restore(whole.parts.store.at(step))
            trainer.parts.store = CheckpointStore(tmp_path / f"{step}-{known}")
            trainer.run()
            assert equal(weights(trainer), weights(whole)) == (known or step == 7), (step, known)


def test_what_never_fits_is_told_and_leaves_the_weights_alone(tmp_path: Path) -> None:
    events: list[Event] = []
    trainer = make_trainer(tmp_path, events=events, micro_rows=64)
    before = weights(trainer)
    with short(trainer, {0: 0}) as machine, pytest.raises(RecipeError) as caught:
        trainer.run()
    assert machine.tries == [6, 3, 2, 1]
    assert str(caught.value).startswith("out of memory with 1 row at once: CUDA out of memory. Tried to allocate")
    assert caught.value.remedy.startswith(
        "add --set train.activation_checkpointing=full, of which the result is the same"
    )
    assert "smaller preset" in caught.value.remedy and not caught.value.told
    assert equal(before, weights(trainer)) and told(events) == []
    assert all(parameter.grad is None for parameter in trainer.parts.model.parameters())


def test_another_error_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path, UNSAVED, micro_rows=6)
    monkeypatch.setitem(REFUSALS, "cuda", lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with short(trainer, {0: 3}) as machine, pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        trainer.run()
    assert machine.tries == [6] and trainer.parts.micro_rows == 6


def test_the_next_try_begins_with_what_the_failed_one_held_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frames are held by the error's traceback, and they hold the activations."""
    trainer = make_trainer(tmp_path, UNSAVED, micro_rows=6)
    held: list[weakref.ref[Tensor]] = []
    alive: list[bool] = []

    def refuses(hidden_BTD: Tensor, *rest: Any, **options: Any) -> Tensor:
        if len(hidden_BTD) > 3:
            held.append(weakref.ref(hidden_BTD))
            circle: list[Any] = [hidden_BTD]
            circle.append(circle)
            raise MemoryError
        alive.extend(tensor() is not None for tensor in held)
        return summed_loss(hidden_BTD, *rest, **options)

    monkeypatch.setattr(step_module, "summed_loss", refuses)
    trainer.run()
    assert len(held) == 1 and alive and not any(alive)


def test_an_evaluation_without_room_is_told_after_all_that_was_trained_is_saved(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, UNSAVED)
    whole = trainer.parts.evaluate
    assert whole is not None

    def refuses(*given: Any) -> dict[str, float]:
        raise OutOfMemory("Tried to allocate 2.00 GiB.")

    trainer.parts.evaluate = refuses
    with pytest.raises(RecipeError, match="out of memory in an evaluation, with 1 row at once: Tried") as caught:
        trainer.run()
    assert "goes on with this evaluation" in caught.value.remedy and "model.context_length" in caught.value.remedy
    assert "micro_batch" not in caught.value.remedy and trainer.progress.step == 4
    events: list[Event] = []
    again = make_trainer(tmp_path, UNSAVED, events=events)
    latest, _ = again.parts.store.latest()
    assert latest is not None and latest.step == 4
    again.restore(latest)
    again.run()
    evaluated = [event.step for event in events if isinstance(event, EvaluationRecord)]
    assert evaluated == [4, 8, 10] and again.progress.step == 10
    never_refused = make_trainer(tmp_path / "other", UNSAVED)
    never_refused.run()
    assert equal(weights(again), weights(never_refused))


def test_graphs_are_what_an_evaluation_can_spare(tmp_path: Path) -> None:
    """Held by a stand-in: graphs there are on a GPU only."""
    trainer, found = make_trainer(tmp_path, UNSAVED), list[bool]()

    class Held:
        graphs = 0

        def __call__(self, rows: Batch, valid: float) -> Tensor:
            self.graphs = 1
            parts = trainer.parts
            return one_pass(parts.model, Feed.of(rows, torch.device("cpu")), "fp32", parts.scaler, valid)

        def forget(self) -> bool:
            held, self.graphs = bool(self.graphs), 0
            return held

    def asks(model: Any, between: Any, tell: Any, spare: Callable[[], bool]) -> dict[str, float]:
        found.extend([spare(), spare()])
        return {"loss": 1.0}

    trainer.parts.evaluate = asks
    for passes in (None, Held()):
        trainer._passes = passes  # type: ignore[assignment]
        trainer._evaluate()
    trainer.run()
    assert found == [False] * 4 + [True, False] * 3


def test_what_an_evaluation_has_to_tell_is_recorded(tmp_path: Path) -> None:
    events: list[Event] = []
    trainer = make_trainer(tmp_path, UNSAVED, events=events)

    def tells(model: Any, between: Any, tell: Callable[[str], None], spare: Any) -> dict[str, float]:
        tell("fewer rows")
        return {"loss": 1.0}

    trainer.parts.evaluate = tells
    trainer.run()
    assert [event for event in events if isinstance(event, Message)] == [
        Message(step, "warning", "fewer rows") for step in (4, 8, 10)
    ]
