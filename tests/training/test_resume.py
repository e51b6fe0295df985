"""A run that goes on after any checkpoint ends with the bits of the run that was never stopped; and the test can
tell.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.helpers import equal, make_trainer, train_config, validation_of, weights
from tilth.checkpoint.store import Checkpoint
from tilth.core.errors import CheckpointError, DivergedError, Stopped
from tilth.core.rundir import EvaluationRecord, Event, StepRecord
from tilth.model.wrapped import AnyModel
from tilth.training.stopping import Progress
from tilth.training.trainer import Spare, Tell, Trainer

pytestmark = pytest.mark.slow

STEPS = 8
"""Three epochs end within them, two evaluations are made, and the learning rate rises and falls."""
OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer": {"name": "adamw", "lr": 1e-2}},
    {"optimizer": {"name": "sgd", "lr": 1e-1, "momentum": 0.9}},
    {"optimizer": {"name": "muon", "lr": 1e-2}},
]


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, torch.Tensor]:
    trainer = make_trainer(tmp_path)
    assert trainer.run() == "steps"
    return weights(trainer)


@pytest.mark.parametrize("options", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_going_on_after_every_step_gives_the_same_bits(tmp_path: Path, options: dict[str, Any], precision: str) -> None:
    config = train_config(steps=STEPS, **options)
    events: list[Event] = []
    first = make_trainer(tmp_path, config, events, precision)
    first.run()
    records = [without_times(e) for e in events if isinstance(e, StepRecord | EvaluationRecord)]
    for step in range(1, STEPS + 1):
        again: list[Event] = []
        trainer = make_trainer(tmp_path, config, again, precision)
        trainer.restore(trainer.parts.store.at(step))
        assert trainer.run() == "steps"
        assert equal(weights(trainer), weights(first)), f"after step {step}"
        told = [without_times(e) for e in again if isinstance(e, StepRecord | EvaluationRecord)]
        assert told == [r for r in records if r["step"] > step]


def without_times(event: StepRecord | EvaluationRecord) -> dict[str, Any]:
    timed = ("seconds", "data_wait_seconds", "tokens_per_second", "memory_bytes")
    return {key: value for key, value in dataclasses.asdict(event).items() if key not in timed}


NOT_DECIDING = {"seconds", "skipped_in_a_row"}
"""Times, which no two runs share, and a counter that is zero in every run that goes on well."""


class Lacking(Checkpoint):
    """A checkpoint from which one piece was left out (a negative control: resuming from it must not pass for the
    same).
    """

    piece = ""

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        kept = super().tensors(name)
        if name == "model" and self.piece in kept:
            kept[self.piece] = torch.zeros_like(kept[self.piece])
        return {key: value for key, value in kept.items() if f"optimizer.{key.rpartition('|')[2]}" != self.piece}

    def state(self) -> dict[str, Any]:
        state = super().state()
        section, _, key = self.piece.partition(".")
        if section == "progress":
            state["progress"][key] = getattr(Progress(), key)
        elif section == "loader":
            state["loader"][key] = 0
        elif section == "scaler":
            state["scaler"] = {**state["scaler"], key: {"scale": 2.0, "_growth_tracker": 0}[key]}
        return state


def eventful(folder: Path, optimizer: str) -> Trainer:
    """A run in which every number of the saved state has left its beginning by step 9: fp16, skips, early stopping."""
    options: dict[str, Any] = {
        "steps": 14,
        "optimizer": {"name": optimizer, "lr": 1e-2},
        "early_stopping": {"metric": "accuracy", "patience": 50, "min_delta": 0.5},
        "convergence": {"window": 50},
    }
    trainer = make_trainer(folder, train_config(**options), precision="fp16")
    accuracy = {2: 2, 4: 3, 6: 2, 8: 1}
    trainer.parts.evaluate = lambda model, *_: {
        **validation_of(model),
        "accuracy": accuracy.get(trainer.progress.step, 2),
    }
    trainer.parts.evaluate_every = 2
    trainer.parts.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**18, growth_interval=3)
    return trainer


def outcome(trainer: Trainer) -> dict[str, Any]:
    """All that a run leaves, times apart."""
    kept = {key: value for key, value in trainer.progress.state_dict().items() if key != "seconds"}
    best = trainer.parts.store.best()
    scaler = trainer.parts.scaler.state_dict()
    return {"progress": kept, "scaler": scaler, "best": best and best.step, "loader": trainer.parts.loader.state_dict()}


PIECES = [
    *("layers.0.mlp.up_proj.weight", "loader.samples", "scaler.scale", "scaler._growth_tracker"),
    *(f"optimizer.{slot}" for slot in ("exp_avg", "exp_avg_sq", "step", "momentum_buffer")),
    *(f"progress.{field.name}" for field in dataclasses.fields(Progress) if field.name not in NOT_DECIDING),
]


def broken_off(trainer: Trainer, at: int) -> Trainer:
    """A trainer to whose process SIGTERM comes within the evaluation of a step."""
    whole = trainer.parts.evaluate
    assert whole is not None

    def evaluate(model: AnyModel, between: Callable[[], None], tell: Tell, spare: Spare) -> dict[str, float]:
        if trainer.progress.step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        between()
        return whole(model, between, tell)

    trainer.parts.evaluate = evaluate
    return trainer


@pytest.mark.parametrize("step", [8, 14])
def test_a_signal_within_an_evaluation_is_answered_at_once_and_changes_nothing(tmp_path: Path, step: int) -> None:
    whole = eventful(tmp_path / "whole", "adamw")
    whole.run()
    first = broken_off(eventful(tmp_path / "cut", "adamw"), step)
    with pytest.raises(Stopped, match=f"SIGTERM at step {step}: everything is saved .the evaluation of this step"):
        first.run()
    for twice in (True, False):  # a signal may come within it again
        again = eventful(tmp_path / "cut", "adamw")
        latest, _ = again.parts.store.latest()
        assert latest is not None and latest.step == step
        again.restore(latest)
        assert again.unevaluated and again.progress.last_validation != whole.progress.last_validation
        if twice:
            with pytest.raises(Stopped):
                broken_off(again, step).run()
    again.run()
    assert equal(weights(again), weights(whole)) and not again.unevaluated
    ends = [outcome(trainer) for trainer in (again, whole)]
    assert ends[0] == ends[1]
    noted = broken_off(eventful(tmp_path / "cut", "adamw"), step)  # that evaluation is not made any more
    noted.restore(noted.parts.store.at(step))
    assert noted.progress.last_validation == whole.parts.store.at(step).state()["progress"]["last_validation"]
    noted.run()
    assert not noted.unevaluated and outcome(noted) == ends[1] and equal(weights(noted), weights(whole))
    note = noted.parts.store.at(step).path / "evaluated.json"
    note.write_bytes(note.read_bytes().replace(b"1", b"2", 1))
    noted.restore(noted.parts.store.at(step))
    assert noted.unevaluated, "what was altered is not believed"


def test_what_is_marked_best_stays_while_its_evaluation_is_made_again(tmp_path: Path) -> None:
    trainer = broken_off(eventful(tmp_path, "adamw"), 4)
    with pytest.raises(Stopped):
        trainer.run()
    trainer = eventful(tmp_path, "adamw")
    trainer.restore(trainer.parts.store.at(4))
    order, note = list[bool](), trainer.parts.store.at(4).path / "evaluated.json"
    trainer.parts.before_save = lambda: order.append(note.exists())
    trainer.run()
    assert order[:2] == [False, True], "records are durable before they are relied on"
    best = trainer.parts.store.best()
    assert best is not None and best.step == 4
    note.unlink()  # as a kill before it was written leaves it
    trainer = broken_off(eventful(tmp_path, "adamw"), 4)
    trainer.restore(trainer.parts.store.at(4))
    with pytest.raises(Stopped):
        trainer.run()
    best = trainer.parts.store.best()
    assert best is not None and best.step == 4


Ended = tuple[Path, dict[str, Any], dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def eventful_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """For each optimizer the folder of such a run, its outcome and its weights; tests go on in copies."""
    ended: dict[str, Ended] = {}
    for optimizer in ("adamw", "muon"):
        folder = tmp_path_factory.mktemp(optimizer)
        trainer = eventful(folder, optimizer)
        trainer.run()
        ended[optimizer] = folder, outcome(trainer), weights(trainer)
    return ended


@pytest.mark.parametrize("piece", [*PIECES, "nothing"])
def test_leaving_any_piece_out_is_noticed(tmp_path: Path, eventful_runs: dict[str, Ended], piece: str) -> None:
    optimizer = "muon" if piece == "optimizer.momentum_buffer" else "adamw"
    folder, expected, expected_weights = eventful_runs[optimizer]
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    # Step 9 is in the middle; at 14 the run is over, and what the next step would overwrite is what it reports.
    noticed = any(differs(tmp_path, optimizer, piece, step, expected, expected_weights) for step in (9, 14))
    assert noticed == (piece != "nothing")


def differs(
    folder: Path, optimizer: str, piece: str, step: int, expected: dict[str, Any], expected_weights: dict[str, Any]
) -> bool:
    """Whether a run that goes on from a checkpoint without the piece fails, or ends otherwise."""
    trainer = eventful(folder, optimizer)
    try:
        trainer.restore(type("Without", (Lacking,), {"piece": piece})(trainer.parts.store.at(step).path, step))
        trainer.run()
        return outcome(trainer) != expected or not equal(weights(trainer), expected_weights)
    except (CheckpointError, DivergedError, KeyError):
        return True


def test_other_dropout_would_be_noticed(tmp_path: Path, whole: dict[str, torch.Tensor]) -> None:
    trainer = make_trainer(tmp_path)
    trainer.restore(trainer.parts.store.at(5))
    trainer.config = trainer.config.model_copy(update={"seed": trainer.config.seed + 1})
    trainer.run()
    assert not equal(weights(trainer), whole)


def test_early_stopping_goes_on_counting(tmp_path: Path) -> None:
    options = {"steps": 100, "early_stopping": {"metric": "loss", "patience": 2}}
    first = make_trainer(tmp_path, train_config(**options))
    assert first.run() == "early_stopping"
    end = first.progress.step
    for step in (3, 4, 5, end):
        trainer = make_trainer(tmp_path, train_config(**options))
        trainer.restore(trainer.parts.store.at(step))
        assert trainer.run() == "early_stopping" and trainer.progress.step == end
        assert equal(weights(trainer), weights(first))
    best = first.parts.store.best()
    assert best is not None and best.step == first.progress.best_step


def test_a_loss_that_is_no_number_stops_before_the_update(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, train_config(optimizer={"name": "sgd", "lr": 1e-2}))
    trainer.config = trainer.config.model_copy(update={"steps": 100})
    poisoned = trainer.parts.model.layers[0].mlp.up_proj  # type: ignore[union-attr]
    original = trainer._update

    def poison(batch: Any, first_sample: int) -> Any:
        if trainer.progress.step == 6:
            with torch.no_grad():
                poisoned.weight[0, 0] = float("nan")  # type: ignore[index,operator]
        return original(batch, first_sample)

    trainer._update = poison  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=r"step 7: loss nan.*on samples 36 to 41.*last checkpoint: step 6"):
        trainer.run()
    assert trainer.progress.step == 6 and caught_exit_code() == 5


def caught_exit_code() -> int:
    return DivergedError.exit_code
