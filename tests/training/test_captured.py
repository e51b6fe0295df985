"""Passes as CUDA graphs: the same bits as call by call, given up where they leave no room. On a machine with a GPU; the
rule of which models may be captured, anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.helpers import equal, make_trainer, train_config, weights
from tilth.core.rundir import Event, Message, StepRecord
from tilth.model.precision import make_scaler
from tilth.model.recompute import recompute_layers
from tilth.training import captured as captured_module
from tilth.training.captured import CapturedPasses, can_capture
from tilth.training.trainer import Trainer

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CUDA = torch.device("cuda")


def passes_of(trainer: Trainer) -> CapturedPasses:
    passes = trainer._passes
    assert passes is not None
    return passes


def losses(events: list[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, StepRecord)]


def given_up(folder: Path, whole: Trainer) -> str:
    """Why a run goes without graphs, which ends as `whole` did."""
    events: list[Event] = []
    trainer = make_trainer(folder, events=events, device="cuda")
    assert trainer.run() == "steps" and equal(weights(trainer), weights(whole))
    (said,) = [event.text for event in events if isinstance(event, Message)]
    first, _, reason = said.partition(": ")
    assert first == "steps run without a CUDA graph"
    return reason


def test_a_gpu_native_models_and_no_scale_that_changes_are_what_it_takes(tmp_path: Path) -> None:
    model = make_trainer(tmp_path).parts.model
    plain, scaled = make_scaler("bf16", CUDA), torch.amp.GradScaler("cpu", enabled=True)
    assert can_capture(model, CUDA, plain)
    assert not can_capture(model, torch.device("cpu"), plain)
    assert not can_capture(model, CUDA, scaled)
    recompute_layers(model)
    assert not can_capture(model, CUDA, plain)


@on_a_gpu
@pytest.mark.parametrize("micro_rows", [2, 4, 6])  # three alike; one and what is left over; one a step
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_graph_gives_the_bits_of_its_calls(tmp_path: Path, micro_rows: int, precision: str, name: str) -> None:
    config = train_config(optimizer={"name": name, "lr": 1e-2})
    told: list[list[Event]] = [[], [], []]
    trainers = [
        make_trainer(tmp_path / str(n), config, told[n], precision, micro_rows=micro_rows, device="cuda")
        for n in range(3)
    ]
    passes_of(trainers[1])._given_up = True
    trainers[2]._passes = None
    for trainer in trainers:
        assert trainer.run() == "steps"
    captured, called, _ = trainers
    assert len(passes_of(captured)._graphs) == (2 if micro_rows == 4 else 1)
    assert not passes_of(called)._graphs
    assert losses(told[0]) == losses(told[1])
    assert equal(weights(captured), weights(called))
    assert losses(told[0]) == pytest.approx(losses(told[2]), rel=2e-3)  # which divides otherwise
    assert len(set(losses(told[0]))) == 10  # a graph that read the same rows again would repeat itself


@on_a_gpu
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_it_goes_on_to_the_same_bits(tmp_path: Path, name: str) -> None:
    config = train_config(optimizer={"name": name, "lr": 1e-2})
    whole = make_trainer(tmp_path, config, device="cuda")
    whole.run()
    for step in (1, 2, 7):
        trainer = make_trainer(tmp_path, config, device="cuda")
        trainer.restore(trainer.parts.store.at(step))
        assert trainer.run() == "steps"
        assert equal(weights(trainer), weights(whole)), f"after step {step}"


@on_a_gpu
def test_passes_that_hide_their_calls_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_trainer(tmp_path / "whole", device="cuda")
    whole.run()
    monkeypatch.setattr(captured_module, "_CALLS", 1e9)  # no calls take so long
    events: list[Event] = []
    trainer = make_trainer(tmp_path / "calls", events=events, device="cuda")
    assert trainer.run() == "steps"
    passes = passes_of(trainer)
    assert not passes._graphs and not passes._gradients and len(passes._called) == 1
    assert not [event for event in events if isinstance(event, Message)]
    assert equal(weights(trainer), weights(whole))


@on_a_gpu
def test_where_no_room_is_left_it_is_told_and_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_trainer(tmp_path / "whole", device="cuda")
    whole.run()
    monkeypatch.setattr(captured_module, "_LEFT", 1)  # all of the memory would have to be free
    assert given_up(tmp_path / "full", whole).startswith("it would leave ")


@on_a_gpu
def test_what_cannot_be_recorded_is_told_and_runs_call_by_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_trainer(tmp_path / "whole", device="cuda")
    whole.run()
    one_pass = captured_module.one_pass

    def waiting(*arguments: Any) -> torch.Tensor:
        loss = one_pass(*arguments)
        float(loss)  # no graph can wait for a number
        return loss

    monkeypatch.setattr(captured_module, "one_pass", waiting)
    assert given_up(tmp_path / "waits", whole)


@on_a_gpu
def test_memory_that_is_refused_later_makes_a_graph_of_fewer_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    trainer = make_trainer(tmp_path / "short", events=events, micro_rows=6, device="cuda")
    passes, calls = passes_of(trainer), 0
    real = CapturedPasses.__call__

    def short(self: CapturedPasses, rows: Any, valid: float) -> torch.Tensor:
        nonlocal calls
        calls += 1
        loss = real(self, rows, valid)
        if calls == 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return loss

    monkeypatch.setattr(CapturedPasses, "__call__", short)
    assert trainer.run() == "steps"
    assert trainer.parts.micro_rows == 3
    assert {kind[0][0] for kind in passes._graphs} == {3}
    (said,) = [event.text for event in events if isinstance(event, Message)]
    assert "step 6 is done again with 3" in said  # the first runs without
    assert losses(events)[-1] < losses(events)[0]
