"""What a run takes at its largest, and what it computes: a step and an evaluation, run on paper (meter.py).

    footprint(plan) -> Footprint

The step is one in the middle of a run: the optimizer has its state, and where a batch goes through in several
micro-batches the gradients of those before are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tilth.core.environment import Precision
from tilth.data.feed import Feed
from tilth.model.precision import make_scaler
from tilth.model.wrapped import AnyModel
from tilth.train.config import TrainConfig
from tilth.train.meter import Kind, Meter, Peak, on_paper
from tilth.train.optim import make_optimizer
from tilth.train.step import loss_of, update

_FINITE = 1.0


@dataclass(frozen=True)
class Plan:
    """What is to be run on paper; everything in it is made there.

    Attributes:
        model: makes the model as training begins with it.
        feed: makes the tensors of a micro-batch.
        evaluate: one batch of an evaluation; None where there is none.
        accumulates: a batch goes through in more than one micro-batch.
    """

    model: Callable[[], AnyModel]
    feed: Callable[[], Feed]
    train: TrainConfig
    precision: Precision
    device: torch.device
    accumulates: bool = False
    evaluate: Callable[[AnyModel], object] | None = None


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes at the largest, and work.

    Attributes:
        step, evaluation: peaks of both.
        stays: bytes that are held from one step to the next.
        micro, update: work of one micro-batch, and of the optimizer after the last.
    """

    step: Peak
    evaluation: Peak | None
    stays: dict[str, int]
    micro: Counter[Kind]
    update: Counter[Kind]


def footprint(plan: Plan) -> Footprint:
    """Runs it on paper; about a second for a model of twelve layers."""
    with on_paper() as meter:
        meter.begin("weights")
        model = plan.model().train()
        optimizer = make_optimizer(plan.train.optimizer, model)
        scaler = make_scaler(plan.precision, plan.device)
        scaler.scale(torch.zeros((), device=plan.device))  # it is not ready before
        _gradients(meter, model)
        meter.begin("optimizer")
        update(model, optimizer, scaler, _FINITE, plan.train.grad_clip)
        stays = dict(meter.live)
        evaluation = None if plan.evaluate is None else _evaluation(meter, model, plan.evaluate)
        if plan.accumulates:
            _gradients(meter, model)
        step, micro = _micro_batch(meter, model, plan, scaler)
        meter.begin("optimizer")
        update(model, optimizer, scaler, _FINITE, plan.train.grad_clip)
        return Footprint(max(step, meter.peak, key=lambda peak: peak.total), evaluation, stays, micro, meter.work)


def _gradients(meter: Meter, model: AnyModel) -> None:
    meter.part = "gradients"
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


def _micro_batch(meter: Meter, model: AnyModel, plan: Plan, scaler: torch.amp.GradScaler) -> tuple[Peak, Counter[Kind]]:
    """Forward and backward; what becomes a gradient is counted as one as soon as it is its parameter's."""
    hooks: list[Any] = [
        parameter.register_post_accumulate_grad_hook(partial(_is_gradient, meter))  # type: ignore[no-untyped-call]
        for parameter in model.parameters()
        if parameter.requires_grad
    ]
    meter.begin("batch")
    feed = plan.feed()
    meter.part = "activations"
    hidden = feed.hidden(model, plan.precision)
    meter.part = "loss"
    loss = loss_of(model, hidden, feed.labels, plan.precision)
    del hidden  # the step gives it away, too
    meter.part = "working"
    scaler.scale(loss / 1.0).backward()  # type: ignore[no-untyped-call]
    for hook in hooks:
        hook.remove()
    return meter.peak, meter.work


def _is_gradient(meter: Meter, parameter: Tensor) -> None:
    assert parameter.grad is not None
    meter.call(parameter.grad, "gradients")


@torch.no_grad()
def _evaluation(meter: Meter, model: AnyModel, evaluate: Callable[[AnyModel], object]) -> Peak:
    model.eval()
    meter.begin("activations")
    evaluate(model)
    model.train()
    return meter.peak
