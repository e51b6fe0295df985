"""When a run ends, and how far it is: rules over a few numbers that the checkpoint keeps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from tilth.training.config import TrainConfig

HIGHER_IS_BETTER = {"accuracy"}


@dataclass
class Progress:
    """How far the run is. All that stopping, the schedule and `best` depend on.

    `losses` holds the last 2 x window training losses where convergence is asked for.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_metric: str = "loss"
    best_value: float | None = None
    best_step: int = 0
    best_validation: dict[str, float] | None = None
    reference_value: float | None = None
    """The metric at the last gain that counted: what early stopping compares with."""
    evaluations_without_gain: int = 0
    losses: list[float] = field(default_factory=list)
    last_loss: float | None = None
    last_validation: dict[str, float] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Plain data, exact under JSON."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over all that `state_dict` gave."""
        for key, value in state.items():
            setattr(self, key, value)


class Stopping:
    """The limits of a run.

    Args:
        batch_tokens: tokens of one step. epoch_tokens: tokens of one pass over the training split.
    """

    def __init__(self, config: TrainConfig, batch_tokens: int, epoch_tokens: int) -> None:
        self.config = config
        limits = {
            "steps": config.steps,
            "tokens": config.tokens and math.ceil(config.tokens / batch_tokens),
            "epochs": config.epochs and math.ceil(config.epochs * epoch_tokens / batch_tokens),
        }
        self.limits = {name: steps for name, steps in limits.items() if steps}
        self.total_steps = min(self.limits.values(), default=None)

    @property
    def by_the_clock(self) -> bool:
        """Whether time decides what a step does: such a run is not repeatable, because clocks are not."""
        return self.total_steps is None and self.config.hours is not None

    def reason(self, progress: Progress) -> str | None:
        """Why the run is over (the name of the limit), or None."""
        for name, steps in self.limits.items():
            if progress.step >= steps:
                return name
        config = self.config
        if config.hours and progress.seconds >= config.hours * 3600:
            return "hours"
        if config.early_stopping and progress.evaluations_without_gain >= config.early_stopping.patience:
            return "early_stopping"
        return "convergence" if self._converged(progress) else None

    def share_done(self, progress: Progress) -> float:
        """How much of the run is done, 0 to 1: by steps, or by the clock where only hours are given (0 when
        open-ended).
        """
        if self.total_steps:
            return progress.step / self.total_steps
        if self.config.hours:
            return progress.seconds / (self.config.hours * 3600)
        return 0.0

    def note_loss(self, progress: Progress, loss: float) -> None:
        """Remembers a training loss."""
        progress.last_loss = loss
        if self.config.convergence:
            progress.losses = [*progress.losses, loss][-2 * self.config.convergence.window :]

    def note_validation(self, progress: Progress, metrics: dict[str, float]) -> bool:
        """Remembers an evaluation; True when it is the best so far."""
        rule = self.config.early_stopping
        name, delta = (rule.metric, rule.min_delta) if rule else ("loss", 0.0)
        value = metrics[name]
        progress.last_validation = metrics
        if progress.best_metric != name:  # the recipe's metric changed: the old one's values say nothing about it
            progress.best_metric, progress.best_value, progress.reference_value = name, None, None
        best = _gain(name, value, progress.best_value) > 0
        if best:
            progress.best_value, progress.best_step, progress.best_validation = value, progress.step, metrics
        if _gain(name, value, progress.reference_value) > delta:
            progress.reference_value, progress.evaluations_without_gain = value, 0
        else:
            progress.evaluations_without_gain += 1
        return best

    def _converged(self, progress: Progress) -> bool:
        rule = self.config.convergence
        if not rule or len(progress.losses) < 2 * rule.window:
            return False
        before, now = (
            sum(part) / rule.window for part in (progress.losses[: rule.window], progress.losses[rule.window :])
        )
        return before - now < rule.tolerance * abs(before)


def _gain(metric: str, value: float, before: float | None) -> float:
    if before is None:
        return math.inf
    return value - before if metric in HIGHER_IS_BETTER else before - value
