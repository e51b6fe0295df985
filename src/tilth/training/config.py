"""The `train:` section of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from tilth.core.config import Config
from tilth.core.environment import DeviceName, Precision
from tilth.core.words import bytes_of
from tilth.data.batches.masking import MaskingConfig
from tilth.training.schedule import ScheduleConfig

Objective = Literal["causal_lm", "sft", "masked_lm"]
DEFAULT_OBJECTIVE: Objective = "causal_lm"


@dataclass(frozen=True)
class ObjectiveTraits:
    """What the code asks of an objective, in place of its name.

    Attributes:
        every_token: all of a text bears loss, so that figures are of the whole text; of others only a part does.
        conversations: a text is questions and answers, as `data.chat` writes them; answers bear loss, and rows are
            whole conversations.
        hides_tokens: `train.masking` hides some tokens, which bear loss; of others a label is the next token.
    """

    every_token: bool = False
    conversations: bool = False
    hides_tokens: bool = False

    @property
    def looks_both_ways(self) -> bool:
        """Whether a position sees what stands after it too, as where tokens are hidden: by a model that is not causal,
        and writes no text.
        """
        return self.hides_tokens

    @property
    def ahead(self) -> Literal[0, 1]:
        """How many tokens after its position a label stands."""
        return 0 if self.hides_tokens else 1


OBJECTIVES: dict[Objective, ObjectiveTraits] = {
    "causal_lm": ObjectiveTraits(every_token=True),
    "sft": ObjectiveTraits(conversations=True),
    "masked_lm": ObjectiveTraits(hides_tokens=True),
}


def objectives_of(*, causal: bool) -> list[Objective]:
    """Those that a model can be trained by which sees only what stands before a token, or looks both ways."""
    return [name for name, traits in OBJECTIVES.items() if traits.looks_both_ways != causal]


class OptimizerConfig(Config):
    """Which optimizer, with its constants."""

    example: ClassVar[str] = "{name: adamw, lr: 1e-3}"

    name: Literal["adamw", "muon", "sgd", "gd"] = "adamw"
    """`muon`: Muon for the matrices of the layers, AdamW for the rest; `gd`: full-batch gradient descent (with
    `batch_tokens: all`).
    """
    lr: float = Field(default=1e-3, gt=0)
    """The peak learning rate."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled (adamw, muon) or L2 (sgd, gd) decay of matrices; vectors (norms, biases) never decay. Left out: 0.1
    for adamw and muon, 0 for sgd and gd.
    """
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """adamw, and what muon leaves to it: how slowly the mean of gradients forgets."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """adamw, and what muon leaves to it: how slowly the mean of squared gradients forgets."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the root of the squares, so that nothing is divided by 0."""
    momentum: float | None = Field(default=None, ge=0, lt=1)
    """sgd, muon: how slowly earlier gradients are forgotten. Left out: 0.9 for sgd, 0.95 for muon."""
    nesterov: bool = False
    """sgd: look ahead along the momentum (Sutskever et al. 2013)."""

    @model_validator(mode="before")
    @classmethod
    def _plain_descent_does_not_decay(cls, data: Any) -> Any:
        plain = isinstance(data, dict) and data.get("name") in ("sgd", "gd")
        return {"weight_decay": 0.0, **data} if plain else data

    @model_validator(mode="after")
    def _keys_belong(self) -> OptimizerConfig:
        adam = {"beta1", "beta2", "eps"}
        meaning = {"adamw": adam, "muon": {*adam, "momentum"}, "sgd": {"momentum", "nesterov"}, "gd": set()}
        for key in ("beta1", "beta2", "eps", "momentum", "nesterov"):
            # A resolved recipe names every key: only a value that is not the default was meant.
            if getattr(self, key) != type(self).model_fields[key].default and key not in meaning[self.name]:
                raise ValueError(f"{key} has no meaning for {self.name} | remove it")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0 | set momentum: 0.9")
        return self


class EarlyStopping(Config):
    """Stops when a validation metric has not improved for `patience` evaluations."""

    metric: Literal["loss", "perplexity", "bits_per_byte", "accuracy"] = "loss"
    """Which figure of the validation split has to improve."""
    patience: int = Field(default=5, ge=1)
    """Evaluations in a row without an improvement, after which the run ends."""
    min_delta: float = Field(default=0.0, ge=0)
    """An improvement smaller than this does not count."""


class Convergence(Config):
    """Stops when the mean training loss of the last `window` steps is no longer better than that of the window
    before.
    """

    window: int = Field(default=200, ge=2)
    """Steps over which the loss is averaged."""
    tolerance: float = Field(default=1e-3, ge=0)
    """The smallest relative improvement that counts as progress."""


class CheckpointConfig(Config):
    """How often the run becomes durable, and how much is kept. A checkpoint is always written at the end and on a
    signal.
    """

    every_steps: int | None = Field(default=500, ge=1)
    """Steps between checkpoints; null: steps do not matter."""
    every_minutes: float | None = Field(default=10.0, gt=0)
    """Minutes between checkpoints, where these come before `every_steps`; null: the clock does not matter."""
    keep: int = Field(default=2, ge=1)
    """How many of the newest are kept; the best by the validation metric is kept besides."""
    best: bool = True
    """Write a checkpoint at each evaluation that is the best so far."""


class TrainConfig(Config):
    """How a model is trained, and for how long: the first of the limits that is reached ends the run."""

    example: ClassVar[str] = "{steps: 1000}"

    objective: Objective = DEFAULT_OBJECTIVE
    """`causal_lm`: every next token; `sft`: the answers of conversations; `masked_lm`: hidden tokens, from both sides.
    """
    masking: MaskingConfig | None = None
    """masked_lm: which tokens are hidden. Left out: BERT's shares."""
    freeze: list[str] = []
    """Modules and parameters that do not train, by names and patterns (`embed_tokens`, `layers.[0-5].*`)."""
    steps: int | None = Field(default=None, ge=1)
    """Updates of the weights, at the most."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens that are read, at the most."""
    epochs: float | None = Field(default=None, gt=0)
    """How often all training text is read, at the most; 0.5 is half of it once."""
    hours: float | None = Field(default=None, gt=0)
    """Time that the run takes, at the most, over all its sittings; such a run cannot be repeated step by step. Beside
    steps, tokens or epochs it is a limit alone: the schedule goes by these, and stops short where the clock ends the
    run."""
    early_stopping: EarlyStopping | None = None
    """End when held-out text no longer gets better. Left out: never."""
    convergence: Convergence | None = None
    """End when the training loss no longer falls. Left out: never."""
    batch_tokens: int | Literal["all"] = 16384
    """Tokens of one optimizer update, over all micro-batches and processes; `all`: the whole training split."""
    micro_batch: int | Literal["auto"] = "auto"
    """Rows that go through the model at once; half as many, from the step on to which memory is refused. `auto`: on a
    CPU the fastest by a short measurement, on CUDA the most that fit. Memory depends on it; the gradient does not. (On
    an accelerator, and in transformers' own classes, dropout draws other masks for another cut.)"""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How gradients become updates."""
    schedule: ScheduleConfig = ScheduleConfig()
    """How the learning rate moves over the run."""
    grad_clip: float | None = Field(default=1.0, gt=0)
    """The largest norm of the whole gradient; a longer one is scaled down to it. Left out: 1.0, and none for gd, whose
    steps are the gradient's.
    """
    memory: str | None = None
    """The most that a process of this run may take, as `16GiB`, by its forecast. Left out: what the device has."""
    activation_checkpointing: int | Literal["auto", "none", "full"] = "auto"
    """Which layers keep their input alone and are computed again on the way back, with the same gradients: `none`;
    `full`, all of them, which takes a third more time and far less memory; the first so many; `auto`: as few as bring
    the rows of `micro_batch` within `memory`, by the forecast (where that is auto, too, rows of 4,096 tokens, and 512
    on a CPU)."""
    compile: bool | Literal["auto"] = False
    """Layers run as one graph, which torch's compiler makes before the first step (on a CPU with g++, in some 20 s;
    what it made is kept for the next run). `auto`: where the run is long and a trial shows that it is faster. The same
    loss, other rounding. Not with DoRA or four bits, nor in transformers' own classes, nor with documents apart in rows
    of more than 256 tokens on a CPU."""
    precision: Precision = "auto"
    """In which products are computed; weights and optimizer stay in fp32. `auto` measures which is faster here."""
    device: DeviceName = "auto"
    """`auto`: cuda or mps where they are, else cpu."""
    price_per_hour: float | None = Field(default=None, gt=0)
    """What the machine costs, in any currency: the forecast then names what the run will."""
    seed: int = Field(default=1, ge=0)
    """Initial weights, order and dropout follow from it."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """How often the run becomes durable."""
    final: Literal["last", "best"] = "last"
    """Which weights become RUN/final."""

    @property
    def traits(self) -> ObjectiveTraits:
        """What the objective asks of data and model."""
        return OBJECTIVES[self.objective]

    @property
    def recomputes(self) -> bool:
        """Whether a layer is computed again on the way back; what `auto` comes to is settled before a model is made."""
        return self.activation_checkpointing not in ("auto", "none")

    @field_validator("memory", mode="before")
    @classmethod
    def _memory_is_an_amount(cls, memory: Any) -> Any:
        if memory is not None and (str(memory).strip()[-1:].isdigit() or not bytes_of(str(memory))):
            raise ValueError(f"{memory!r} is no amount of memory | write it with its unit, as 16GiB or 800MiB")
        return memory

    @model_validator(mode="before")
    @classmethod
    def _full_batch_descent_is_not_clipped(cls, data: Any) -> Any:
        optimizer = data.get("optimizer") if isinstance(data, dict) else None
        name = optimizer.get("name") if isinstance(optimizer, dict) else getattr(optimizer, "name", None)
        return {"grad_clip": None, **data} if name == "gd" else data

    @model_validator(mode="after")
    def _masking_has_a_meaning(self) -> TrainConfig:
        if self.masking is not None and not self.traits.hides_tokens:
            raise ValueError(
                f"masking: it has no meaning for {self.objective} | remove it, or set objective: masked_lm"
            )
        return self

    @model_validator(mode="after")
    def _ends(self) -> TrainConfig:
        if not (self.steps or self.tokens or self.epochs or self.hours or self.early_stopping or self.convergence):
            raise ValueError("nothing ends this run | give steps, tokens, epochs, hours, early_stopping or convergence")
        known_length = self.steps or self.tokens or self.epochs or self.hours
        if self.schedule.name != "constant" and not known_length:
            raise ValueError(
                f"schedule {self.schedule.name} needs to know how long the run is | give steps, tokens, epochs or hours"
            )
        return self

    @model_validator(mode="after")
    def _batch_makes_sense(self) -> TrainConfig:
        if (self.optimizer.name == "gd") != (self.batch_tokens == "all"):
            raise ValueError(
                f"optimizer {self.optimizer.name} with batch_tokens {self.batch_tokens} | "
                "full-batch gradient descent is optimizer: {name: gd} with batch_tokens: all, together"
            )
        if isinstance(self.batch_tokens, int) and self.batch_tokens < 1:
            raise ValueError(f"batch_tokens: {self.batch_tokens} is too few | give a positive number of tokens")
        if isinstance(self.micro_batch, int) and self.micro_batch < 1:
            raise ValueError(f"micro_batch: {self.micro_batch} is too few | give a positive number of rows, or auto")
        if isinstance(self.activation_checkpointing, int) and self.activation_checkpointing < 1:
            asked = self.activation_checkpointing
            raise ValueError(f"activation_checkpointing: {asked} is too few | give a number of layers, or none")
        return self
