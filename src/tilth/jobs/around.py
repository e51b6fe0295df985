"""What a recipe puts on a model that exists, from outside and in one order.

put_around(model, recipe, precision)     adapter, freezing, recomputation

Training, the forecast's run on paper and the check all come here, so that a forecast, and with it `micro_batch: auto`,
is of the model that trains. What more shall change a model belongs here. Compiling comes after it (blocks.py): it goes
by a trial on the batches of the run.
"""

from __future__ import annotations

from tilth.checkpoint.peft import check_savable
from tilth.core.environment import Precision
from tilth.jobs.recipe import Recipe
from tilth.model.adapters import apply_adapter
from tilth.model.freezing import freeze
from tilth.model.precision import DTYPES
from tilth.model.recompute import recompute_layers
from tilth.model.wrapped import AnyModel


def put_around(model: AnyModel, recipe: Recipe, precision: Precision, *, quantize: bool = True) -> None:
    """Makes of `model` what the recipe trains: each of these sees what those before it have left.

    RecipeError where adapter or freezing name nothing, nothing would be left to train, no file could hold what the
    adapter trains whole, or a class of transformers' cannot compute its layers again.

    Args:
        quantize: False leaves the matrices beside an adapter as they are, so that their numbers can be counted.
    """
    if recipe.adapter is not None:
        adapter = recipe.adapter if quantize else recipe.adapter.model_copy(update={"quantize": None})
        # Frozen weights are read in the precision of the products: held in it, none is cast in a step.
        apply_adapter(model, adapter, recipe.train.seed, dtype=DTYPES.get(precision))
        check_savable(model)
    if recipe.train.freeze:
        freeze(model, recipe.train.freeze)
    if recipe.train.recomputes:  # what `auto` comes to is settled before (forecasting/recomputed.py)
        again = recipe.train.activation_checkpointing
        recompute_layers(model, again if isinstance(again, int) else None)
