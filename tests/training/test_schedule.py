"""Schedules against torch's and against figures by hand; limits against each other."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tilth.core.config import parse
from tilth.core.errors import RecipeError
from tilth.training.config import TrainConfig
from tilth.training.schedule import ScheduleConfig, learning_rate_share
from tilth.training.stopping import Progress, Stopping


def shares(steps: int, **options: Any) -> list[float]:
    config = ScheduleConfig(**options)
    return [learning_rate_share(config, step, step / steps, steps) for step in range(steps)]


def nanogpts(step: int, warmup: int, total: int, floor: float) -> float:
    """nanoGPT's `get_lr` for a peak of 1, written anew: up, then a cosine over the steps that are left."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return floor + 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) * (1 - floor)


@pytest.mark.parametrize(("warmup", "total"), [(100, 2000), (100, 200), (0, 30), (10, 12)])
def test_warm_up_and_cosine_are_nanogpts(warmup: int, total: int) -> None:
    expected = [nanogpts(step, warmup, total, 0.1) for step in range(total)]
    assert shares(total, name="cosine", warmup_steps=warmup, final=0.1) == pytest.approx(expected)
    assert max(expected) == 1.0, "the peak is reached"


@pytest.mark.parametrize(("total", "warmup"), [(5, 0), (200, 20), (5000, 100), (None, 20)])
def test_the_warm_up_fits_the_run_where_it_is_left_out(total: int | None, warmup: int) -> None:
    assert ScheduleConfig().warmup(total) == warmup


def test_cosine_equals_torchs_annealing() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.1)
    expected = []
    for _ in range(50):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert shares(50, name="cosine", warmup_steps=0, final=0.1) == pytest.approx(expected)


def test_linear_and_constant_and_warm_up() -> None:
    assert shares(10, name="linear", warmup_steps=0, final=0.5) == pytest.approx([1 - 0.05 * s for s in range(10)])
    assert shares(10, name="constant", warmup_steps=4) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1])


def test_wsd_is_flat_then_falls() -> None:
    curve = shares(12, name="wsd", warmup_steps=2, decay_share=0.5, final=0.0)
    assert curve == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "nothing ends this run"),
        ({"early_stopping": {"patience": 3}}, "schedule cosine needs to know how long the run is"),
        ({"steps": 3, "schedule": {"name": "linear", "decay_share": 0.5}}, "decay_share has no meaning for linear"),
        ({"steps": 3, "optimizer": {"name": "sgd", "beta1": 0.5}}, "beta1 has no meaning for sgd"),
        ({"steps": 3, "optimizer": {"name": "gd"}}, "optimizer gd with batch_tokens 16384"),
        ({"steps": 3, "batch_tokens": "all"}, "optimizer adamw with batch_tokens all"),
        ({"steps": 3, "micro_batch": 0}, "micro_batch: 0 is too few"),
    ],
)
def test_plans_that_cannot_be_meant(data: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        parse(TrainConfig, data)


def stopping(**options: Any) -> Stopping:
    options.setdefault("schedule", {"name": "constant"})
    return Stopping(parse(TrainConfig, options), batch_tokens=100, epoch_tokens=950)


@pytest.mark.parametrize(
    ("options", "steps", "name"),
    [
        ({"steps": 7}, 7, "steps"),
        ({"tokens": 650}, 7, "tokens"),
        ({"epochs": 2}, 19, "epochs"),
        ({"epochs": 2, "steps": 30}, 19, "epochs"),
        ({"tokens": 5000, "steps": 30}, 30, "steps"),
    ],
)
def test_the_first_limit_ends_the_run(options: dict[str, Any], steps: int, name: str) -> None:
    rules = stopping(**options)
    assert rules.total_steps == steps
    assert rules.reason(Progress(step=steps - 1)) is None
    assert rules.reason(Progress(step=steps)) == name
    assert rules.share_done(Progress(step=steps)) == 1.0


def test_hours_end_a_run_and_measure_it() -> None:
    rules = stopping(hours=0.5)
    assert rules.reason(Progress(seconds=1799)) is None and rules.reason(Progress(seconds=1800)) == "hours"
    assert rules.share_done(Progress(seconds=900)) == 0.5


@pytest.mark.parametrize(
    ("metric", "values"), [("loss", [3.0, 2.0, 2.5, 1.995, 2.1]), ("accuracy", [0.1, 0.3, 0.2, 0.305, 0.1])]
)
def test_early_stopping_counts_evaluations_without_gain(metric: str, values: list[float]) -> None:
    rules = stopping(early_stopping={"metric": metric, "patience": 3, "min_delta": 0.01})
    progress, best = Progress(), []
    for step, value in enumerate(values, 1):
        progress.step = step
        best.append(rules.note_validation(progress, {metric: value, "loss": value}))
        assert (rules.reason(progress) == "early_stopping") == (step == 5)
    # The fourth is the best, but not by enough to count as gain.
    assert best == [True, True, False, True, False] and progress.best_step == 4


def test_convergence_compares_two_windows() -> None:
    rules = stopping(convergence={"window": 3, "tolerance": 0.01})
    progress = Progress()
    for loss in [5, 4, 3, 2, 1.99, 1.98]:
        rules.note_loss(progress, loss)
        assert rules.reason(progress) is None
    for loss in [1.98, 1.98, 1.98]:
        rules.note_loss(progress, loss)
    assert rules.reason(progress) == "convergence"
    other = Progress()
    other.load_state_dict(progress.state_dict())
    assert rules.reason(other) == "convergence", "it follows from what the checkpoint keeps"
