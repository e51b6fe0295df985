"""What a run takes at its largest, and what it computes: a step and an evaluation, run on paper (meter.py).

    footprint(plan) -> Footprint
    Desk().footprint(plan)           of several that differ in their rows alone

The step is one in the middle of a run: the optimizer has its state, and where a batch goes through in several
micro-batches the gradients of those before are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from tilth.core.environment import Precision
from tilth.data.batches.feed import Feed
from tilth.model.dropout import drawing
from tilth.model.precision import make_scaler
from tilth.model.wrapped import AnyModel
from tilth.training.config import TrainConfig
from tilth.training.meter import Kind, Meter, Paper, Peak, Tape, play
from tilth.training.optim import make_optimizer
from tilth.training.step import loss_of, update

When = Literal["step", "evaluation"]
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
    """What happens to memory, and work.

    Attributes:
        before: until the first step has given the optimizer its state.
        step: all of one.
        evaluation: one batch of it; empty where there is none.
        micro, update: work of one micro-batch, and of the optimizer after the last.
        keeps: small blocks that are given back stay with the process.
    """

    before: Tape
    step: Tape
    evaluation: Tape
    micro: Counter[Kind]
    update: Counter[Kind]
    keeps: bool

    @property
    def peaks(self) -> dict[When, Peak]:
        """The most that is taken in a step, and in an evaluation where there is one. Between the two the process gives
        back what it had kept.
        """
        tapes: dict[When, Tape] = {"step": self.step, "evaluation": self.evaluation}
        return {name: play([self.before, tape], keeps=self.keeps) for name, tape in tapes.items() if tape}


class Desk:
    """Where plans are run on paper that differ in nothing but the rows of their feed: the model is made, and evaluated,
    for the first of them alone.
    """

    def __init__(self) -> None:
        self._paper = Paper()
        self._ready: _Ready | None = None

    def footprint(self, plan: Plan) -> Footprint:
        """Runs it; some seconds for a model of twelve layers."""
        with self._paper as meter:
            ready = self._ready = self._ready or _make_ready(meter, plan)
            meter.begin("batch")
            if plan.accumulates:
                _gradients(meter, ready.model)
                meter.work.clear()
            _micro_batch(meter, ready.model, plan, ready.scaler)
            micro, meter.work, meter.part = meter.work, Counter(), "working"
            update(ready.model, ready.optimizer, ready.scaler, _FINITE, plan.train.grad_clip)
            # A copy: that the model goes when all is done is no part of a step.
            keeps = plan.device.type == "cpu" and not plan.train.recomputes
            return Footprint(ready.before, list(meter.tape), ready.evaluation, micro, meter.work, keeps)


def footprint(plan: Plan) -> Footprint:
    """Of one plan."""
    return Desk().footprint(plan)


@dataclass(frozen=True)
class _Ready:
    """What is there between two steps, and what happened until then."""

    model: AnyModel
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    before: Tape
    evaluation: Tape


def _make_ready(meter: Meter, plan: Plan) -> _Ready:
    meter.begin("weights")
    model = plan.model().train()
    optimizer = make_optimizer(plan.train.optimizer, model)
    scaler = make_scaler(plan.precision, plan.device)
    scaler.scale(torch.zeros((), device=plan.device))  # it is not ready before
    _gradients(meter, model)
    meter.part = "optimizer"
    update(model, optimizer, scaler, _FINITE, plan.train.grad_clip)
    before = meter.tape
    meter.begin("activations")
    if plan.evaluate is not None:
        _evaluate(model, plan.evaluate)
    return _Ready(model, optimizer, scaler, before, meter.tape)


def _gradients(meter: Meter, model: AnyModel) -> None:
    meter.part = "gradients"
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


def _micro_batch(meter: Meter, model: AnyModel, plan: Plan, scaler: torch.amp.GradScaler) -> None:
    """Forward and backward; what becomes a gradient is counted as one as soon as it is its parameter's."""
    hooks: list[Any] = [
        parameter.register_post_accumulate_grad_hook(partial(_is_gradient, meter))  # type: ignore[no-untyped-call]
        for parameter in model.parameters()
        if parameter.requires_grad
    ]
    meter.part = "batches"
    feed = plan.feed()
    with drawing(0, 0, len(feed.input_ids)):
        meter.part = "activations"
        hidden = feed.hidden(model, plan.precision)
        meter.part = "loss"
        loss = loss_of(model, hidden, feed.labels, plan.precision) / 1.0
        del hidden  # the step gives it away, too
        meter.part = "working"
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    for hook in hooks:
        hook.remove()


def _is_gradient(meter: Meter, parameter: Tensor) -> None:
    assert parameter.grad is not None
    meter.call(parameter.grad, "gradients")


@torch.no_grad()
def _evaluate(model: AnyModel, evaluate: Callable[[AnyModel], object]) -> None:
    model.eval()
    evaluate(model)
    model.train()
