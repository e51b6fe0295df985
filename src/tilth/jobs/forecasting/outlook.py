"""What the steps that are left of a run should take: said before them, and held against what they took.

    outlook = Outlook(recipe, config, dataset, folder, checkpoint, trainer)
    outlook.say(changes, record)         before the first step, in all processes
    outlook.against(watch)               after the last one: what `tilth train --json` prints of it

A run that goes on is foretold by its own steps, where those to come will be done alike; any other by the rates of
this machine (forecast_run.py).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

import torch

from tilth.checkpoint.store import Checkpoint
from tilth.core.allocator import give_back_freed_blocks
from tilth.core.environment import held_memory_bytes
from tilth.core.rundir import Message, RunFolder
from tilth.core.words import bytes_of
from tilth.data.dataset import Dataset
from tilth.jobs.forecasting.forecast_run import RunForecast, run_forecast
from tilth.jobs.forecasting.paper_run import NoForecastError
from tilth.jobs.forecasting.watch import Watch, misjudged, own_pace
from tilth.jobs.recipe import Recipe
from tilth.jobs.saying import Emit
from tilth.model.wrapped import AnyConfig
from tilth.training.calibration import calibrated, doubt, is_kept, measure
from tilth.training.optim import state_tensors
from tilth.training.trainer import Trainer

_OTHER_SPEED = (
    "train.micro_batch",
    "train.device",
    "train.precision",
    "train.compile",
    "train.activation_checkpointing",
    "train.memory",
)


class Outlook:
    """Of a run that stands where `trainer` does.

    Args:
        recipe: with the shape filled in.
        config: of the model that is trained.
        checkpoint: that the run goes on from, if any.
    """

    def __init__(
        self,
        recipe: Recipe,
        config: AnyConfig,
        dataset: Dataset,
        folder: RunFolder,
        checkpoint: Checkpoint | None,
        trainer: Trainer,
    ) -> None:
        self._recipe, self._trainer, self._folder, self._checkpoint = recipe, trainer, folder, checkpoint
        self._runtime, self._identity = trainer.parts.runtime, trainer.parts.identity
        self._held_out = dataset.stream("validation").tokens
        ends = trainer.stopping.reason(trainer.progress) is not None
        self._config = None if ends else config
        self._forecast: RunForecast | None = None

    def say(self, changes: Sequence[str], record: Emit) -> None:
        """Foretells and records it; nothing where no step is left.

        Args:
            changes: of the recipe since the run began.
        """
        runtime = self._runtime
        if not runtime.from_main(lambda: self._config is not None):
            return
        if runtime.any(runtime.is_main and not is_kept(runtime.device)):
            record(Message(self._trainer.progress.step, "info", "measuring how fast this machine is (once)"))
            # All at once, for in training they share the cores.
            calibrated(runtime.device) if runtime.is_main else measure(runtime.device, "")
        told = self._message_seconds()
        if runtime.is_main and self._config is not None:
            try:
                self._forecast = self._foretell(self._config, self._own_pace(changes), told)
                said = self._forecast.words()
            except NoForecastError as unknown:
                said = str(unknown)
            record(Message(self._trainer.progress.step, "info", said))
            self._say_more_than_asked(record)

    def _say_more_than_asked(self, record: Emit) -> None:
        asked = self._recipe.train.memory
        if self._forecast and asked and self._forecast.memory.total > (bytes_of(asked) or 0):
            text = f"that is more than train.memory: {asked}; `tilth check RECIPE --fit {asked}` says what would fit"
            record(Message(self._trainer.progress.step, "warning", text))

    def against(self, watch: Watch) -> dict[str, Any] | None:
        """The forecast and what was, once the steps are done and before anything is written; a calibration that misled
        is forgotten.
        """
        peak, forecast = self._runtime.peak_memory_bytes(), self._forecast
        if forecast is None:
            return None
        taken = watch.against(forecast, peak, self._recipe.train.price_per_hour)
        if not forecast.own_pace and misjudged(taken):
            doubt(self._runtime.device)
        return taken

    def _foretell(self, config: AnyConfig, pace: float | None, told: float) -> RunForecast:
        trainer, parts = self._trainer, self._trainer.parts
        done = trainer.config.model_copy(update={"compile": parts.compiled})  # what `auto` came to
        total = trainer.stopping.total_steps
        return run_forecast(
            self._recipe.model_copy(update={"train": done}),
            config,
            parts.micro_rows,
            parts.runtime.device,
            precision=parts.precision,
            rows=parts.loader.share_rows,
            steps=None if total is None else total - trainer.progress.step,
            held_out=self._held_out,
            held=functools.partial(_held, trainer),
            spent=trainer.progress.seconds,
            pace=pace,
            told=told,
        )

    def _own_pace(self, changes: Sequence[str]) -> float | None:
        """Seconds of the run's steps until now; None where they were done in another way, or elsewhere."""
        if self._checkpoint is None or any(change.startswith(_OTHER_SPEED) for change in changes):
            return None
        before = self._checkpoint.state()["identity"]
        if any(before.get(key) != self._identity[key] for key in ("environment", "world_size")):
            return None
        return own_pace(self._folder.steps())

    def _message_seconds(self) -> float:
        """What the gradients of a step take from process to process: the second message of their size, timed."""
        runtime = self._runtime
        if runtime.world_size == 1:
            return 0.0
        parameters = self._trainer.parts.model.parameters()
        numbers = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        message = torch.zeros(numbers, device=runtime.device)
        runtime.sum(message)[0].item()  # the first also finds the way
        started = time.perf_counter()
        runtime.sum(message)[0].item()  # on a GPU it is over when its number is here
        return time.perf_counter() - started


def _held(trainer: Trainer) -> int:
    """What this process holds besides the model and what its optimizer has by now; 0 where the system does not say."""
    give_back_freed_blocks()  # what the forecast itself has left is there for the steps
    parts = trainer.parts
    tensors = [*parts.model.parameters(), *parts.model.buffers(), *state_tensors(parts.optimizer).values()]
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.device.type == "cpu"]
    own = {storage.data_ptr(): storage.nbytes() for storage in storages}  # tied ones count once
    return max(0, (held_memory_bytes() or 0) - sum(own.values()))
