"""A tiny run put together by hand: dropout on, accumulation on, an epoch of a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.data.helpers import make_stream
from tilth.checkpoint.store import CheckpointStore
from tilth.core.config import parse
from tilth.core.rundir import Event
from tilth.data.batches.loader import Loader
from tilth.data.batches.masking import Masker
from tilth.data.batches.mixture import Mixture
from tilth.data.batches.order import Sampler
from tilth.data.batches.sampling import make_sampler
from tilth.data.shards import TokenStream
from tilth.distributed.runtime import Runtime
from tilth.model.config import ModelConfig
from tilth.model.precision import make_scaler
from tilth.model.transformer import Transformer, build
from tilth.training.config import TrainConfig
from tilth.training.optim import make_optimizer
from tilth.training.trainer import Parts, Trainer


def train_config(**changes: Any) -> TrainConfig:
    base = {
        "steps": 10,
        "schedule": {"name": "cosine", "warmup_steps": 3},
        "checkpoint": {"every_steps": 1, "every_minutes": None, "keep": 100},
        "optimizer": {"name": "adamw", "lr": 1e-2},
    }
    return parse(TrainConfig, {**base, **changes})


def make_trainer(
    folder: Path,
    config: TrainConfig | None = None,
    events: list[Event] | None = None,
    precision: Any = "fp32",
    tokens: TokenStream | Mixture | None = None,
    sampler: Sampler | None = None,
    masker: Masker | None = None,
    micro_rows: int = 2,
    device: str = "cpu",
) -> Trainer:
    """A trainer over 130 tokens (or those given) in rows of 8, 6 rows a step in micro-batches of 2: an epoch ends
    within every third step.
    """
    config = config or train_config()
    if sampler is None:
        sampler = make_sampler(tokens or make_stream(folder / "data", [[70, 60]]), 8, config.seed)
    model = build(
        ModelConfig(
            num_hidden_layers=1,
            num_attention_heads=2,
            hidden_size=16,
            context_length=8,
            vocab_size=130,
            dropout=0.3,
            norm="layernorm",
            bias=True,
        ),
        config.seed,
        device,
    )
    runtime = Runtime(torch.device(device))
    parts = Parts(
        model=model,
        optimizer=make_optimizer(config.optimizer, model),
        loader=Loader(sampler, 6, fingerprint="d", masker=masker),
        runtime=runtime,
        store=CheckpointStore(folder / "checkpoints"),
        precision=precision,
        scaler=make_scaler(precision, runtime.device),
        micro_rows=micro_rows,
        emit=(events if events is not None else []).append,
        evaluate=validation_of,
        evaluate_every=4,
    )
    return Trainer(config, parts)


def validation_of(
    model: Transformer, between: Callable[[], None] = lambda: None, tell: Any = None, spare: Any = None
) -> dict[str, float]:
    """A figure that follows from the weights."""
    between()
    return {"loss": float(model.embed_tokens.weight.detach().abs().mean())}


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.parts.model.state_dict().items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
