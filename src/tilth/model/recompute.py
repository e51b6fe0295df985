"""Activation checkpointing: what a layer keeps for the way back is computed again instead (Chen et al. 2016).

    recompute_layers(model, number)     from outside: each of the first layers, or of all, keeps its input alone

With all layers a step takes a third more time (one more forward pass of them) and keeps one [B, T, D] a layer. With the
first so many it takes their share of that: they come last on the way back, when what the others kept is gone, so that
the layer which is computed again adds nothing to the peak. Gradients are the same bits: a layer runs again under the
same dropout draws and the same autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from tilth.core.errors import RecipeError
from tilth.model.transformer import Transformer
from tilth.model.wrapped import AnyModel, WrappedModel
from tilth.model.wrapped_config import library, quiet

_OTHERWISE = "set train.activation_checkpointing: {other}none, and a smaller train.micro_batch"


def recompute_layers(model: AnyModel, number: int | None = None) -> None:
    """Lets the first so many layers of `model` keep their input only; without gradients nothing changes.

    RecipeError where it has fewer, and when it is a class of transformers' that does not know how.

    Args:
        number: left out: all.
    """
    if isinstance(model, Transformer):
        _check(number, len(model.layers))
        for layer in model.layers[:number]:
            layer.forward = Recomputed(layer.forward)
        return
    if not model.hf.supports_gradient_checkpointing:
        raise RecipeError(
            f"train.activation_checkpointing: {type(model.hf).__name__} of transformers does not know how",
            _OTHERWISE.format(other=""),
        )
    with quiet():  # newer versions call it otherwise, and advise to
        model.hf.gradient_checkpointing_enable({"use_reentrant": False})
    if number is not None:
        _only_the_first(model, number)


def _only_the_first(model: WrappedModel, number: int) -> None:
    one_by_one = library().modeling_layers.GradientCheckpointingLayer
    layers: list[Any] = [part for part in model.hf.modules() if isinstance(part, one_by_one)]
    if not layers:
        raise RecipeError(
            f"train.activation_checkpointing {number}: {type(model.hf).__name__} of transformers knows how for all of "
            "its layers alone",
            _OTHERWISE.format(other="full, or "),
        )
    _check(number, len(layers))
    for layer in layers[number:]:
        layer.gradient_checkpointing = False


def _check(number: int | None, layers: int) -> None:
    if number is not None and number > layers:
        raise RecipeError(
            f"train.activation_checkpointing {number}: the model has {layers} layers",
            f"set train.activation_checkpointing: full, which is all of them, or a number up to {layers}",
        )


class Recomputed:
    """Runs `forward`, and runs it again on the way back."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, *arguments: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*arguments)
        return checkpoint(self.forward, *arguments, use_reentrant=False)
