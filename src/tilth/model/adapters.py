"""Adapters of a model: put beside its layers, chosen, merged and taken apart again.

    apply_adapter(model, config, seed)     freezes the model and adds a new adapter, which trains
    choose(model, name)                    which of several adapters works, or none
    merge / unmerge                        into the weights and back, to the bit
    merge_and_unload(model)                the plain model, as an export wants it
    add_layer / add_saved                  what a reader of adapter files builds with
    quantize_layers(model, config)         what it was trained beside, where that was quantized

The layers that get an adapter are replaced by `LoraLinear` in place; names and tensors of the base stay what they were
(quantized ones apart). Any module with Linear layers will do, models of transformers with Conv1D too. What is trained
whole (`modules_to_save`) is a copy: the base's tensor is kept, so that another adapter, or none, can be chosen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tilth.core.errors import RecipeError
from tilth.model.adapter_config import AdapterConfig
from tilth.model.dropout import name_sites
from tilth.model.layers import is_linear
from tilth.model.lora import LoraLinear, LoraPart
from tilth.model.patterns import select
from tilth.model.unread import read_now, read_rest

DEFAULT = "default"
_BOOK = "_adapter_book"


@dataclass
class Book:
    """What a model knows of its adapters, beside what lies in its layers."""

    configs: dict[str, AdapterConfig] = field(default_factory=dict)
    chosen: str | None = None
    base: dict[str, nn.Parameter] = field(default_factory=dict)
    """The base's own parameters where some adapter has trained them whole."""
    saved: dict[str, dict[str, nn.Parameter]] = field(default_factory=dict)
    """What each adapter has in their place."""
    merged: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """What an adapter is beside: its layers, the parameters that it trains whole, and numbers trained and frozen."""

    layers: list[str]
    saved: list[str]
    trained: int
    frozen: int


def apply_adapter(
    model: nn.Module, config: AdapterConfig, seed: int, *, name: str = DEFAULT, dtype: torch.dtype | None = None
) -> Applied:
    """Freezes `model`, adds an adapter that changes nothing yet, chooses it and lets it train.

    Args:
        seed: A is drawn from (seed, the layer's name), whatever else there is.
        dtype: what the frozen weights of adapted layers are held in; left out: as they are. With the run's precision
            no product changes by a bit, and nothing is cast any more.

    RecipeError when targets name no linear layer, or an adapter of that name is there.
    """
    choose(model, None)
    layers = find_targets(model, config)
    saved = _whole(model, config.modules_to_save, layers)
    start_adapter(model, config, name)
    for path in layers:
        part = _new_part(config, add_layer(model, path))
        layer = add_layer(model, path, name, part)
        part.initialise(seed, path)
        _hold(layer, config, dtype, path)
        if config.dora:
            part.magnitude = nn.Parameter(layer.lengths(part))  # B is zero: those of the weight as it is held
    read_rest(model)
    name_sites(model)
    add_saved(model, name, {key: model.get_parameter(key) for key in saved})
    choose(model, name, trainable=True)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return Applied(layers, saved, sum(n for n, own in sizes if own), sum(n for n, own in sizes if not own))


def _new_part(config: AdapterConfig, layer: LoraLinear) -> LoraPart:
    sizes = (layer.in_features, layer.out_features)
    return LoraPart(config.rank, config.alpha, sizes, rslora=config.rslora, dropout=config.dropout)


def _hold(layer: LoraLinear, config: AdapterConfig, dtype: torch.dtype | None, path: str) -> None:
    if config.quantize == "nf4":
        layer.quantize(config.double_quantize, path)
    elif dtype is not None:
        layer.hold(dtype)
    else:
        layer.read()


def quantize_layers(model: nn.Module, config: AdapterConfig) -> None:
    """Holds the weights beside which the adapter of `config` was trained as they were then, to the code.

    A file of PEFT's may have parts beside other layers too, which change nothing: PEFT has one layer where tilth has
    three (GPT-2's c_attn). Those layers were not quantized.
    """
    layers = lora_layers(model)
    for path in find_targets(model, config) if config.quantize == "nf4" else ():
        if path in layers and layers[path].part is not None:
            layers[path].quantize(config.double_quantize, path)
    read_rest(model)


def adaptable(model: nn.Module) -> list[str]:
    """Paths of the layers that can have an adapter: linear ones, but for the output matrix.

    The loss reads that matrix itself (`output_weight`), so an adapter beside it would never be read.
    """
    output = _output_weight(model)
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, LoraLinear) or (_is_linear(module) and module.weight is not output)
    ]


def matrices(model: nn.Module) -> list[str]:
    """The weights of the layers that can have an adapter, by name."""
    return [f"{path}.weight" for path in adaptable(model)]


def _is_linear(module: nn.Module) -> bool:
    conv = type(module).__name__ == "Conv1D" and hasattr(module, "nf")  # GPT-2's layer in transformers
    return conv or is_linear(module)


def _output_weight(model: nn.Module) -> Tensor | None:
    weight = getattr(model, "output_weight", None)
    if weight is None and callable(getter := getattr(model, "get_output_embeddings", None)):
        weight = getattr(getter(), "weight", None)
    return weight if isinstance(weight, Tensor) else None


def find_targets(model: nn.Module, config: AdapterConfig) -> list[str]:
    """The layers that `config.targets` names; RecipeError, with what there is, where it names none."""
    there = adaptable(model)
    if not there:
        raise RecipeError(
            "adapter: the model has no linear layer that an adapter could stand beside, but for its output matrix",
            "remove adapter, to train the model whole, or name another checkpoint in model.from",
        )
    patterns = ["*"] if config.targets == "all-linear" else list(config.targets)
    return select(there, patterns, "adapter.targets", "linear layers")


def _whole(model: nn.Module, patterns: list[str], layers: list[str]) -> list[str]:
    """The parameters of the modules that are trained whole, tied ones once."""
    own = [path for path, module in model.named_modules() if path and any(True for _ in module.parameters(False))]
    chosen = select(own, patterns, "adapter.modules_to_save", "modules")
    if both := [path for path in chosen if path in layers]:
        raise RecipeError(
            f"adapter.modules_to_save names {both[0]}, which adapter.targets names too",
            "train it whole or by an adapter: take it out of one of them",
        )
    found: dict[int, str] = {}
    for path in chosen:
        for key, parameter in model.get_submodule(path).named_parameters(recurse=False):
            found.setdefault(id(parameter), f"{path}.{key}")
    return list(found.values())


def book_of(model: nn.Module) -> Book | None:
    """What the model knows of its adapters; None when it never had one."""
    found = model.__dict__.get(_BOOK)
    assert found is None or isinstance(found, Book)
    return found


def start_adapter(model: nn.Module, config: AdapterConfig, name: str) -> None:
    """Makes room for an adapter; everything is frozen by that. RecipeError when the name cannot be had."""
    book = book_of(model) or Book()
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise RecipeError(f"an adapter cannot be called {name!r}", "use up to 64 letters, digits, - and _")
    if name in book.configs:
        raise RecipeError(f"there is an adapter {name!r} already", f"choose a name besides {', '.join(book.configs)}")
    _not_merged(book)
    book.configs[name] = config
    model.__dict__[_BOOK] = book
    model.requires_grad_(False)


def add_layer(model: nn.Module, path: str, name: str | None = None, part: LoraPart | None = None) -> LoraLinear:
    """The layer at `path`, made a LoraLinear if it is none yet, with `part` added where one is given."""
    module = model.get_submodule(path)
    if not isinstance(module, LoraLinear):
        module = LoraLinear(module)
        _replace(model, path, module)
    if name is not None and part is not None:
        module.add(name, part)
    return module


def add_saved(model: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Notes copies of `tensors`, parameters by their names, as what adapter `name` has in the base's place."""
    book = book_of(model)
    assert book is not None
    book.saved[name] = {}
    for key, tensor in tensors.items():
        # The base is chosen, or this is not the first adapter to have it.
        base = book.base.setdefault(key, read_now(model, key))
        copy = tensor.detach().to(base.device, base.dtype).clone()
        book.saved[name][key] = nn.Parameter(copy, requires_grad=False)


def choose(model: nn.Module, name: str | None, *, trainable: bool = False) -> None:
    """Lets the adapter `name` work, and no other; None: the base alone. RecipeError when there is no such adapter.

    Args:
        trainable: whether it gets gradients.
    """
    book = book_of(model) or Book()
    if name is not None and name not in book.configs:
        raise RecipeError(f"the model has no adapter {name!r}", f"it has {', '.join(book.configs) or 'none'}")
    _not_merged(book)
    for layer in lora_layers(model).values():
        layer.chosen = name
        for key, part in layer.adapters.items():
            part.requires_grad_(trainable and key == name)
    own = book.saved.get(name or "", {})
    for key, base in book.base.items():
        now, then = model.get_parameter(key), own.get(key, base)
        then.data = then.data.to(now.device)
        then.requires_grad_(trainable and key in own)
        _swap(model, now, then)
    book.chosen = name


def set_aside(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that are not in the model now, and would be were another adapter chosen, or none."""
    book = book_of(model) or Book()
    there = {id(parameter) for parameter in model.parameters()}
    known = [*book.base.values(), *(found for own in book.saved.values() for found in own.values())]
    return [parameter for parameter in known if id(parameter) not in there]


def adapter_names(model: nn.Module) -> list[str]:
    """The adapters that the model has, in the order in which they came."""
    book = book_of(model)
    return list(book.configs) if book else []


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """The layers that some adapter is beside, by their paths."""
    return {path: module for path, module in model.named_modules() if isinstance(module, LoraLinear)}


def merge(model: nn.Module) -> None:
    """Puts the chosen adapter into the weights, which then cost no more than plain ones; `unmerge` takes it out.

    The weights that were there are kept, since no subtraction gives them back to the bit.
    """
    book = book_of(model)
    if book is not None and not book.merged:
        for layer in lora_layers(model).values():
            layer.merge()
        book.merged = True


def unmerge(model: nn.Module) -> None:
    """Puts back the very tensors that `merge` took out."""
    book = book_of(model)
    if book is not None and book.merged:
        for layer in lora_layers(model).values():
            layer.unmerge()
        book.merged = False


def merge_and_unload(model: nn.Module) -> None:
    """Merges the chosen adapter for good: plain layers again, and no adapter; layer by layer, no second copy.

    Layers that were quantized come back in their own precision with the values that the codes stand for.
    """
    book = book_of(model)
    if book is None:
        return
    for path, layer in lora_layers(model).items():
        layer.merge()
        _replace(model, path, layer.unload())
    del model.__dict__[_BOOK]


def _not_merged(book: Book) -> None:
    if book.merged:
        raise RecipeError(f"the adapter {book.chosen!r} is merged into the weights", "unmerge it first")


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, key = path.rpartition(".")
    setattr(model.get_submodule(parent), key, module)


def _swap(model: nn.Module, old: nn.Parameter, new: nn.Parameter) -> None:
    """Puts `new` wherever `old` stands, under each of its names: tied parameters stay tied."""
    for module in model.modules():
        for key, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if parameter is old:
                setattr(module, key, new)
