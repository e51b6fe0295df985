"""Activation checkpointing: what a layer keeps for the way back is computed again instead (Chen et al. 2016).

    recompute_layers(model)     from outside: each layer keeps its input alone

A step takes a third more time (one more forward pass of the layers) and keeps one [B, T, D] a layer. Gradients are the
same bits: the layer runs again under the same dropout draws and the same autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from tilth.core.errors import RecipeError
from tilth.model.transformer import Transformer
from tilth.model.wrapped import AnyModel
from tilth.model.wrapped_config import quiet


def recompute_layers(model: AnyModel) -> None:
    """Lets every layer of `model` keep its input only; without gradients nothing changes.

    RecipeError when it is a class of transformers' that does not know how.
    """
    if isinstance(model, Transformer):
        for layer in model.layers:
            layer.forward = Recomputed(layer.forward)
        return
    if not model.hf.supports_gradient_checkpointing:
        raise RecipeError(
            f"train.activation_checkpointing full: {type(model.hf).__name__} of transformers does not know how",
            "set train.activation_checkpointing: none, and a smaller train.micro_batch",
        )
    with quiet():  # newer versions call it otherwise, and advise to
        model.hf.gradient_checkpointing_enable({"use_reentrant": False})


class Recomputed:
    """Runs `forward`, and runs it again on the way back."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, *arguments: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*arguments)
        return checkpoint(self.forward, *arguments, use_reentrant=False)
