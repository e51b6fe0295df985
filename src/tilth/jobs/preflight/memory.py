"""What a model takes before anything is allocated: it is built without memory (torch's meta device), and counted.

    model_facts(recipe, config, precision) -> ModelFacts

Exact is what stays for the whole run: weights, gradients, the optimizer's state. What comes and goes with a step is not
in it: activations, logits, copies in another precision.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import Parameter

from tilth.distributed.runtime import pick_device
from tilth.jobs.around import put_around
from tilth.jobs.base import untried
from tilth.jobs.blocks import stays_plain
from tilth.jobs.recipe import Recipe
from tilth.model.adapters import book_of, lora_layers
from tilth.model.precision import DTYPES
from tilth.model.quantize import nf4_bytes
from tilth.model.wrapped import AnyConfig, AnyModel, empty_model
from tilth.training.optim import state_bytes

_FLOAT = 4
LEFT_OUT = ("activations", "logits", "batches", "what torch and the system take")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model in numbers; bytes are those of one process, each of which holds all of it.

    Attributes:
        parameters: of the model, and of the adapter where there is one.
        trained: those that train.
        weights, gradients, optimizer: bytes.
        embeddings: what the modules with a row for each token are called.
        embeddings_train: whether the rows of new tokens would be learned.
        guessed: what is not known yet, in words; empty where all is.
        narrowest: of the layers that get an adapter the one with the shortest side, and that.
        plain: why its layers cannot be compiled, where the recipe wants them to be.
        untried: whether it could not be tried that a class of transformers keeps documents apart.
    """

    parameters: int
    trained: int
    weights: int
    gradients: int
    optimizer: int
    embeddings: tuple[str, ...]
    embeddings_train: bool
    guessed: str
    narrowest: tuple[str, int] | None
    plain: str | None
    untried: bool


def model_facts(recipe: Recipe, config: AnyConfig) -> ModelFacts:
    """Counts the model of a recipe; RecipeError where adapter, freezing or recomputation cannot be put on it.

    Args:
        config: with the vocabulary known.
    """
    model = empty_model(config, "meta")
    names = _embeddings(model)
    put_around(model, recipe, "fp32", quantize=False)  # `_saved` has what more bits or fewer make of it
    parameters = list(model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    embeddings = [model.input_weight, model.output_weight]
    return ModelFacts(
        sum(parameter.numel() for parameter in parameters),
        sum(parameter.numel() for parameter in trained),
        sum(parameter.numel() * _FLOAT for parameter in [*parameters, *_kept(model)]) - _saved(recipe, model),
        sum(parameter.numel() * _FLOAT for parameter in trained),
        state_bytes(recipe.train.optimizer, model),
        names,
        all(weight.requires_grad for weight in embeddings),
        _guessed(recipe),
        _narrowest(model),
        _plain(recipe, config),
        untried(recipe, config),
    )


def _embeddings(model: AnyModel) -> tuple[str, ...]:
    """The last parts of the names of the modules that hold the embeddings; one where input and output share them."""
    rows = {id(model.input_weight), id(model.output_weight)}
    found = (name for name, module in model.named_modules() if id(getattr(module, "weight", None)) in rows)
    one_of_each = {id(model.get_submodule(name).weight): name.rpartition(".")[2] for name in reversed(list(found))}
    return tuple(reversed(one_of_each.values()))


def _kept(model: AnyModel) -> list[Parameter]:
    """The base's tensors that the adapter has a copy of, which trains (`modules_to_save`)."""
    book = book_of(model)
    return list(book.base.values()) if book else []


def _saved(recipe: Recipe, model: AnyModel) -> int:
    """Bytes by which matrices beside an adapter take less than in fp32."""
    found = (layer.weight for layer in lora_layers(model).values())
    matrices: list[Tensor] = [matrix for matrix in found if matrix is not None]
    if recipe.adapter is not None and recipe.adapter.quantize == "nf4":
        double = recipe.adapter.double_quantize
        return sum(matrix.numel() * _FLOAT - nf4_bytes(matrix.numel(), double) for matrix in matrices)
    dtype = DTYPES.get(recipe.train.precision)
    return 0 if dtype is None else sum(matrix.numel() * (_FLOAT - dtype.itemsize) for matrix in matrices)


def _narrowest(model: AnyModel) -> tuple[str, int] | None:
    sides = [(path, min(layer.in_features, layer.out_features)) for path, layer in lora_layers(model).items()]
    return min(sides, key=lambda side: side[1], default=None)


def _plain(recipe: Recipe, config: AnyConfig) -> str | None:
    if recipe.train.compile is not True:
        return None
    return stays_plain(recipe, config, pick_device(recipe.train.device))


def _guessed(recipe: Recipe) -> str:
    if recipe.adapter is None or recipe.adapter.quantize or recipe.train.precision != "auto":
        return ""
    return "frozen matrices are counted in fp32; if train.precision comes out as bf16, they take half of it"
