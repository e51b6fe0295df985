"""What the trainer is given beside model and data, each made by itself; train.py puts them together.

complete_model(config, tokenizer)     the shape with the vocabulary known
evaluation_of(recipe, …)              measures held-out text; None where none is held out
flops_of(model, rows)                 of a step
device_name(runtime)                  as peak rates and fingerprints know it
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from tilth.core.allocator import give_back_freed_blocks
from tilth.core.environment import Precision
from tilth.core.errors import RecipeError
from tilth.data.dataset import Dataset
from tilth.distributed.runtime import Runtime
from tilth.evaluation.evaluator import AtOnce, evaluate
from tilth.jobs.objectives import Reading, counted_bytes, held_out_pass
from tilth.jobs.recipe import Recipe
from tilth.jobs.runs import reading_habits
from tilth.model.flops import trained_flops_per_token
from tilth.model.transformer import Transformer
from tilth.model.wrapped import AnyConfig, AnyModel
from tilth.tokenizer import Tokenizer
from tilth.training.trainer import Evaluate, Spare, Tell


def flops_of(model: AnyModel, rows: int) -> float | None:
    """Of a step; None for a class of transformers', of which it is not known what it computes."""
    if not isinstance(model, Transformer):
        return None
    return trained_flops_per_token(model) * rows * model.config.context_length


def complete_model(config: AnyConfig, tokenizer: Tokenizer, *, grows: bool = False) -> AnyConfig:
    """The model's configuration with the vocabulary known; RecipeError when it is too small for the tokenizer, unless
    it grows with it (a checkpoint's, to whose tokenizer the recipe adds tokens).
    """
    if config.vocab_size is None or (grows and config.vocab_size < tokenizer.vocab_size):
        return config.model_copy(update={"vocab_size": tokenizer.vocab_size})
    if config.vocab_size < tokenizer.vocab_size:
        raise RecipeError(
            f"model.vocab_size is {config.vocab_size}, and the tokenizer has {tokenizer.vocab_size} ids",
            "leave model.vocab_size out: it is then the tokenizer's",
        )
    return config


def evaluation_of(
    recipe: Recipe, config: AnyConfig, dataset: Dataset, runtime: Runtime, precision: Precision
) -> Evaluate | None:
    stream = dataset.stream("validation")
    if not stream.tokens:
        return None
    reading = Reading.of(reading_habits(recipe), config.context_length)
    rows, size = max(1, recipe.evaluate.batch_tokens // config.context_length), counted_bytes(reading, stream)
    at_once = AtOnce()

    def run(model: AnyModel, between: Callable[[], None], tell: Tell, spare: Spare) -> dict[str, float]:
        batches = held_out_pass(reading, stream, dataset.tokenizer, rows)
        give_back_freed_blocks()  # those of a step are too small for an evaluation, and stayed beside its own
        found = evaluate(model, batches, size, runtime, precision, between, at_once, tell, spare).plain()
        give_back_freed_blocks()
        return found

    return run


def device_name(runtime: Runtime) -> str:
    if runtime.device.type == "cuda":
        return torch.cuda.get_device_name(runtime.device)
    return runtime.device.type
