"""Optimizers: which parameters decay, and torch's own AdamW (fused) and SGD over them, or Muon.

`state_bytes` says what an optimizer will keep, before there is one.
`state_tensors` / `load_state_tensors` turn an optimizer's state into named tensors and back, for safetensors.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from tilth.core.errors import CheckpointError
from tilth.training.config import OptimizerConfig
from tilth.training.muon import Muon
from tilth.training.torch_optim import SGD, AdamW


def make_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters of `model`: matrices decay, vectors do not."""
    betas = (config.beta1, config.beta2)
    if config.name == "muon":
        momentum = 0.95 if config.momentum is None else config.momentum
        groups = _groups(model, config.weight_decay, split_layers=True)
        return Muon(groups, lr=config.lr, momentum=momentum, betas=betas, eps=config.eps)
    groups = _groups(model, config.weight_decay, split_layers=False)
    if config.name == "adamw":
        return AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)
    momentum = 0.9 if config.momentum is None else config.momentum
    if config.name == "gd":
        momentum = 0.0
    return SGD(groups, lr=config.lr, momentum=momentum, nesterov=config.nesterov, fused=True)


def _groups(model: nn.Module, weight_decay: float, *, split_layers: bool) -> list[dict[str, Any]]:
    """Parameter groups: vectors without decay, matrices with it; with `split_layers` those of the layers apart, for
    Muon.
    """
    groups: dict[str, dict[str, Any]] = {
        "layers": {"params": [], "weight_decay": weight_decay, "muon": True},
        "matrices": {"params": [], "weight_decay": weight_decay},
        "vectors": {"params": [], "weight_decay": 0.0},
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            hidden = split_layers and parameter.dim() == 2 and re.search(r"(^|\.)\d+\.", name) is not None
            kind = "vectors" if parameter.dim() < 2 else "layers" if hidden else "matrices"
            groups[kind]["params"].append((name, parameter))
    return [group for group in groups.values() if group["params"]]


def state_bytes(config: OptimizerConfig, model: nn.Module) -> int:
    """Bytes that the optimizer keeps of the trainable parameters of `model`, all in fp32; exact."""
    groups = _groups(model, config.weight_decay, split_layers=config.name == "muon")
    kept = 0
    for group in groups:
        numbers = sum(parameter.numel() for _, parameter in group["params"])
        if config.name in ("sgd", "gd"):
            kept += 0 if config.name == "gd" or config.momentum == 0 else numbers
        elif config.name == "muon" and group.get("muon"):
            kept += numbers
        else:  # two averages, and a count of steps for each tensor
            kept += 2 * numbers + len(group["params"])
    return 4 * kept


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
        # AdamW keeps its step counter on the CPU unless fused on an accelerator; the fused kernel wants it beside the
        # parameter.
        optimizer.state[parameter][slot] = value.to(parameter.device)
