"""What the loop does with steps that were skipped, and with signals that come within a step."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.helpers import make_trainer, train_config
from tilth.core.errors import Aborted, CheckpointError, DivergedError, Stopped
from tilth.core.rundir import CheckpointRecord, EvaluationRecord, Event, Message, StepRecord
from tilth.jobs.start import start_alike
from tilth.model.wrapped import AnyModel
from tilth.training import trainer as module
from tilth.training.trainer import Spare, Tell, Trainer


def signalled(trainer: Trainer, step: int, *numbers: int) -> Trainer:
    """A trainer to whose process these signals come while a step is being done."""
    original = trainer._update

    def update(batch: Any, first_sample: int) -> Any:
        if trainer.progress.step == step:
            for number in numbers:
                os.kill(os.getpid(), number)
        return original(batch, first_sample)

    trainer._update = update  # type: ignore[method-assign]
    return trainer


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGTERM,),
        (signal.SIGTERM, signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
    ],
)
def test_signals_within_a_step_let_it_end_and_save_it(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    config = train_config(checkpoint={"every_steps": None, "every_minutes": None})
    trainer = signalled(make_trainer(tmp_path, config), 4, *numbers)
    with pytest.raises(Stopped, match=f"{signal.Signals(numbers[0]).name} at step 5: everything is saved"):
        trainer.run()
    assert trainer.parts.store.at(5).state()["progress"]["step"] == 5


def test_a_second_ctrl_c_stops_at_once_and_says_what_is_saved(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    trainer = signalled(make_trainer(tmp_path), 4, signal.SIGINT, signal.SIGINT)
    with pytest.raises(
        Aborted, match=r"a second Ctrl-C at step 4: stopped at once \(last checkpoint: step 4\)"
    ) as said:
        trainer.run()
    assert said.value.exit_code == 130 and "type the same command" in said.value.remedy
    assert trainer.parts.store.latest()[0].step == 4  # type: ignore[union-attr]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_good_step_ends_a_row_of_skipped_ones_however_long(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, precision="fp16")
    trainer.progress.skipped_in_a_row = 50
    assert trainer.run() == "steps"
    assert trainer.progress.skipped_in_a_row == 0


def test_a_scale_that_will_not_come_right_ends_the_run(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, precision="fp16")
    trainer.progress.skipped_in_a_row = 50
    trainer.parts.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    with pytest.raises(DivergedError, match=r"step 1: .*the update was not done"):
        trainer.run()


def test_weights_that_an_update_broke_are_not_saved(tmp_path: Path) -> None:
    """The gradient was finite, and the step with it was not; what is saved must be worth going on from."""
    rate = {"name": "sgd", "lr": 1e40, "momentum": 0.0}
    schedule = {"name": "constant", "warmup_steps": 0}
    trainer = make_trainer(tmp_path, train_config(optimizer=rate, schedule=schedule, grad_clip=None))
    with pytest.raises(DivergedError, match=r"step 1: .* holds numbers that are none \(last checkpoint: none\)"):
        trainer.run()
    assert trainer.parts.store.latest() == (None, [])


def test_a_sample_that_fails_is_told_and_costs_no_checkpoint(tmp_path: Path) -> None:
    def fails(model: AnyModel, step: int) -> list[Event]:
        raise ValueError(f"{type(model).__name__} writes nothing at {step}\nfor a reason")

    events: list[Event] = []
    trainer = make_trainer(tmp_path, train_config(steps=2), events)
    trainer.parts.sample, trainer.parts.sample_every = fails, 1
    trainer.run()
    assert [event.step for event in events if isinstance(event, CheckpointRecord)] == [1, 2]
    assert [event for event in events if isinstance(event, Message)] == [
        Message(step, "warning", f"no samples could be written: ValueError: Transformer writes nothing at {step}")
        for step in (1, 2)
    ]


def test_the_times_of_steps_leave_out_what_has_a_time_of_its_own_and_nothing_else(tmp_path: Path) -> None:
    """Records, what shows them and what processes tell each other belong to steps; evaluations, samples and checkpoints
    do not.
    """
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        time.sleep(0.05 if isinstance(event, StepRecord) else 0)

    def evaluate(model: AnyModel, between: Callable[[], None], tell: Tell, spare: Spare) -> dict[str, float]:
        time.sleep(0.1)
        return {"loss": float(model.output_weight.detach().abs().mean())}

    def sample(model: AnyModel, step: int) -> list[Event]:
        time.sleep(0.1)
        return []

    trainer = make_trainer(tmp_path, train_config(steps=8))
    trainer.parts.emit, trainer.parts.evaluate, trainer.parts.sample = emit, evaluate, sample
    trainer.parts.sample_every = 3
    trainer.parts.before_save = lambda: time.sleep(0.1)
    started = time.perf_counter()
    trainer.run()
    whole = time.perf_counter() - started
    seconds = [event.seconds for event in events if isinstance(event, StepRecord)]
    evaluated = sum(event.seconds for event in events if isinstance(event, EvaluationRecord))
    saved = sum(event.seconds for event in events if isinstance(event, CheckpointRecord))
    assert min(seconds[1:]) >= 0.05, "what the record before took"
    assert whole - 0.3 - evaluated - saved - 0.2 < sum(seconds) <= whole - 0.3 - evaluated - saved
    assert evaluated >= 0.2 and saved >= 0.8


@pytest.mark.parametrize("far", [2e-7, 0.5, float("nan")])
def test_processes_that_are_far_apart_end_the_run_before_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: float
) -> None:
    events = list[Event]()
    trainer, taken = make_trainer(tmp_path, train_config(steps=3), events), list[list[str]]()
    monkeypatch.setattr(module, "differing", lambda runtime, tensors: [*tensors][1:3])
    monkeypatch.setattr(module, "take_from_main", lambda runtime, tensors: taken.append([*tensors]) or far)
    if far < 0.01:
        trainer.run()
        said = [event.text for event in events if isinstance(event, Message)]
        assert len(said) == 1 and "round otherwise, by 2e-07" in said[0] and len(taken) == 3 and len(taken[0]) == 2
        return
    with pytest.raises(DivergedError, match="step 1: the processes of this run no longer hold the same numbers"):
        trainer.run()
    assert trainer.parts.store.latest() == (None, [])


def test_other_weights_of_one_checkpoint_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path, train_config(steps=1))
    trainer.run()
    parts, names = trainer.parts, [name for name, _ in trainer.parts.model.named_parameters()]
    monkeypatch.setattr("tilth.jobs.start.differing", lambda runtime, tensors: names[:1])
    (said,) = start_alike(parts.runtime, parts.model, None)
    assert f"{names[0]} for one" in said and "all begin with those of process 0" in said
    with pytest.raises(CheckpointError, match=f"read other weights from .*step-00000001: {names[0]}") as caught:
        start_alike(parts.runtime, parts.model, parts.store.at(1))
    assert "the same run folder" in caught.value.remedy
