"""Whether a run fits into memory: what cannot is told before anything is allocated, what did not is told in words.

check_room(recipe, model, device)     by least needs alone: what passes may still be too large
with memory_errors(rows): …           the allocator's refusal as a RecipeError
with evaluation_errors(): …           the same of an evaluation that belongs to no run
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch

from tilth.core.environment import launched, total_memory_bytes
from tilth.core.errors import RecipeError, first_line
from tilth.core.words import bytes_of
from tilth.distributed.refused import OutOfMemory, is_of_memory
from tilth.jobs.recipe import Recipe
from tilth.model.config import ModelConfig, parameter_count
from tilth.model.wrapped import AnyConfig
from tilth.model.wrapped_config import WrappedConfig
from tilth.training.out_of_memory import SMALLER, no_room

_HALF, _FLOAT, _INT = 2, 4, 8


def check_room(recipe: Recipe, model: AnyConfig, device: torch.device) -> None:
    """RecipeError when weights, gradient and optimizer state, or the tokens of one batch, are more than there is.
    Nothing is said of a checkpoint's model whose shape is not known yet.

    Args:
        model: its vocabulary may be left out, as long as it is not known: the rest is then counted.
    """
    room = room_for(recipe, device)
    if room is None or (isinstance(model, ModelConfig) and model.from_ is not None):
        return
    parameters, least = parameters_of(model), least_bytes(recipe, model)
    if least > room:
        kept = f"weights, gradient and what {recipe.train.optimizer.name} keeps take"
        beside = "the weights, frozen beside the adapter, take"
        raise RecipeError(
            f"the model has {parameters:,} parameters: {beside if recipe.adapter else kept} {gib(least)}, and "
            f"{has(recipe, device)}",
            smaller(recipe, device),
        )
    batch, machine = recipe.train.batch_tokens, total_memory_bytes()
    share = 0 if batch == "all" else 2 * batch * _INT // launched().world_size  # what is read, and what is predicted
    if machine is not None and share > machine:
        raise RecipeError(
            f"train.batch_tokens {batch:,}: one batch takes {gib(share)}, and this machine has {gib(machine)}",
            "choose a smaller train.batch_tokens",
        )


def parameters_of(model: AnyConfig) -> int:
    """Numbers that it has, tied ones once; without the embeddings as long as the vocabulary is not known."""
    if isinstance(model, WrappedConfig):
        return model.parameters
    return parameter_count(model if model.vocab_size else model.model_copy(update={"vocab_size": 1}))


def gib(size: int) -> str:
    """As people write it."""
    return f"{size / 2**30:,.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:,.0f} MiB"


def least_bytes(recipe: Recipe, config: AnyConfig) -> int:
    """What weights, gradients and optimizer take at least. Of a model beside which an adapter trains its weights alone
    are counted, as it is held and as it is loaded (start.py).
    """
    parameters = parameters_of(config)
    if recipe.adapter is None:
        return parameters * _FLOAT * (2 + least_slots(recipe))
    if isinstance(config, WrappedConfig):  # their class is there in fp32 before an adapter is
        return parameters * _FLOAT
    rows = (config.vocab_size or 1) * config.hidden_size * (1 if config.tie_word_embeddings else 2)
    matrices = parameters - rows
    if recipe.adapter.quantize == "nf4":  # one after another; the last of all is down_proj
        held = matrices // 2 + config.hidden_size * config.mlp_size * _FLOAT
    else:
        held = matrices * (_FLOAT if recipe.train.precision == "fp32" else _HALF)
    return rows * _FLOAT + held


def room_of(device: torch.device) -> int | None:
    """All memory of the device, bytes; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return total_memory_bytes()


def room_for(recipe: Recipe, device: torch.device) -> int | None:
    """What one process of this run may take, bytes: its part of the device's memory, or `train.memory` where that is
    less; None where the system does not say, nor the recipe.
    """
    asked, there = recipe.train.memory, room_of(device)
    rooms = [there // _beside(device)] if there is not None else []
    return min([*rooms, bytes_of(asked) or 0] if asked else rooms, default=None)


def has(recipe: Recipe, device: torch.device, words: Callable[[int], str] = gib) -> str:
    """The same in words: `cpu has 24.0 GiB`."""
    there, beside = room_of(device), _beside(device)
    if there is None or _bounded(recipe, device):
        return f"train.memory is {recipe.train.memory}"
    return f"{device.type} has {words(there)}{f' for {beside} processes' if beside > 1 else ''}"


def smaller(recipe: Recipe, device: torch.device) -> str:
    """What to do where a model is too large for that."""
    first = f"raise train.memory ({recipe.train.memory}), or " if _bounded(recipe, device) else ""
    if recipe.model.from_ is None:
        return first + SMALLER
    adapter = recipe.adapter
    less = "train an adapter beside it (adapter: {rank: 16})" if adapter is None else "set adapter.quantize: nf4"
    return f"{first}choose a smaller checkpoint" + (f", or {less}" if adapter is None or not adapter.quantize else "")


def _bounded(recipe: Recipe, device: torch.device) -> bool:
    """Whether the recipe leaves a process less than there is."""
    there = room_of(device)
    return recipe.train.memory is not None and (there is None or room_for(recipe, device) != there // _beside(device))


def _beside(device: torch.device) -> int:
    """Processes of this run that share the device's memory."""
    return launched().local_size if device.type == "cpu" else 1


def least_slots(recipe: Recipe) -> int:
    """Numbers that the optimizer keeps of every parameter, at least."""
    optimizer = recipe.train.optimizer
    if optimizer.name == "sgd":
        return 0 if optimizer.momentum == 0 else 1
    return {"adamw": 2, "muon": 1, "gd": 0}[optimizer.name]


@contextlib.contextmanager
def memory_errors(micro_rows: Callable[[], int]) -> Iterator[None]:
    """RecipeError, with what can be made smaller, when memory is refused outside of what a step can do again.

    Args:
        micro_rows: rows that go through the model at once, when it happens.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_of_memory(error):
            raise
        raise no_room(micro_rows(), first_line(error)) from error


@contextlib.contextmanager
def evaluation_errors() -> Iterator[None]:
    """RecipeError when an evaluation got no memory for a single row."""
    try:
        yield
    except OutOfMemory as error:
        raise RecipeError(
            f"out of memory with 1 row at once: {error.reason}", "make memory free: other programs hold some"
        ) from None
