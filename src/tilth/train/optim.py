"""Optimizers: which parameters decay, and torch's own AdamW (fused) and SGD over them.

`state_tensors` / `load_state_tensors` turn an optimizer's state into named tensors and back, for safetensors.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from tilth.core.config import Config
from tilth.core.errors import CheckpointError


class OptimizerConfig(Config):
    """Which optimizer, with its constants. `gd` is plain full-batch gradient descent (with `batch_tokens: all`)."""

    name: Literal["adamw", "sgd", "gd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    """The peak learning rate."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled (adamw) or L2 (sgd, gd) decay of matrices; vectors (norms, biases) never decay."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def _keys_belong(self) -> OptimizerConfig:
        meaning = {"adamw": {"beta1", "beta2", "eps"}, "sgd": {"momentum", "nesterov"}, "gd": set()}
        for key in ("beta1", "beta2", "eps", "momentum", "nesterov"):
            # A resolved recipe names every key: only a value that is not the default was meant.
            if getattr(self, key) != type(self).model_fields[key].default and key not in meaning[self.name]:
                raise ValueError(f"{key} has no meaning for {self.name} | remove it")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum above 0 | set momentum: 0.9")
        return self


def make_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters of `model`: matrices decay, vectors do not."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [(n, p) for n, p in named if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [(n, p) for n, p in named if p.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "adamw":
        betas = (config.beta1, config.beta2)
        return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)
    momentum = config.momentum if config.name == "sgd" else 0.0
    return torch.optim.SGD(groups, lr=config.lr, momentum=momentum, nesterov=config.nesterov, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def _named_parameters(optimizer: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
    return [
        (name, parameter)
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    ]


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as tensors named `parameter|slot` (for example `norm.weight|exp_avg`)."""
    return {
        f"{name}|{slot}": value
        for name, parameter in _named_parameters(optimizer)
        for slot, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_state_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what `state_tensors` gave; CheckpointError when a tensor has no parameter or another shape."""
    parameters = dict(_named_parameters(optimizer))
    for key, value in tensors.items():
        name, _, slot = key.rpartition("|")
        parameter = parameters.get(name)
        if parameter is None or (value.dim() and value.shape != parameter.shape):
            raise CheckpointError(
                f"optimizer state {key!r} {list(value.shape)} fits no parameter of this model",
                "the checkpoint is of another model: use its recipe, or another run folder",
            )
        # AdamW keeps its step counter on the CPU unless fused on an accelerator; the fused kernel wants it beside the parameter.
        optimizer.state[parameter][slot] = value.to(parameter.device)
