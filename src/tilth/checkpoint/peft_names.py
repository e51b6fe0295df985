"""What the layers of a model are called in the Hugging Face model that PEFT's files speak of.

    places(model) -> Placing          from one of our parameter names to the tensor that it lies in
    modules_of(model, placing)        their linear modules, each with ours that lie in it
    parameter_names(model)            the base's parameters, with all names of each
    four_bits(model)                  which of their modules are held in four bits, and which are not

A tensor of theirs can hold several of ours, one after another along its outputs, as GPT-2's `c_attn` does.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from tilth.core.errors import RecipeError
from tilth.model.adapters import adaptable
from tilth.model.families import Place, family_of
from tilth.model.lora import LoraLinear
from tilth.model.transformer import Transformer
from tilth.model.wrapped import WrappedModel

BEFORE = "base_model.model."
"""What PEFT writes in front of every name."""


Placing = Callable[[str], Place]


def places(model: nn.Module) -> Placing:
    """Of our own model the names of its family, or its own when it is of none: PEFT has no class for such a base, and
    tilth reads the adapter all the same. Of any other module its own, of one that is wrapped those of the class inside.
    """
    if isinstance(model, Transformer):
        try:
            return family_of(model.config).place
        except RecipeError:
            return lambda name: Place(f"model.{name}")
    inside = "hf." if isinstance(model, WrappedModel) else ""
    conv = {path for path, module in model.named_modules() if type(module).__name__ == "Conv1D"}
    conv |= {path for path, module in model.named_modules() if getattr(module, "transposed", False) is True}
    return lambda name: Place(name.removeprefix(inside), name.rpartition(".")[0] in conv)


def modules_of(model: nn.Module, placing: Placing) -> dict[str, list[str]]:
    """Their linear modules, each with ours that lie in it, in the order of its outputs."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for path in adaptable(model):
        place = placing(f"{path}.weight")
        found[place.tensor.removesuffix(".weight")].append((place.part, path))
    return {theirs: [path for _, path in sorted(parts)] for theirs, parts in found.items()}


def parameter_names(model: nn.Module) -> dict[str, list[str]]:
    """The base's parameters by the name that `named_parameters` gives them, with all names that each has: several where
    it is tied, those of the output layer too where its matrix is the embedding and stands for itself nowhere.
    """
    first: dict[int, str] = {}
    names: dict[str, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if ".adapters." not in name:
            names[first.setdefault(id(parameter), name)].append(name)
    output = id(getattr(model, "output_weight", None))
    if output in first and isinstance(model, Transformer) and model.lm_head is None:
        names[first[output]].append("lm_head.weight")
        if model.output_bias is not None:
            names[first[id(model.output_bias)]].append("lm_head.bias")
    return dict(names)


@dataclass(frozen=True, slots=True)
class FourBits:
    """A base in four bits as bitsandbytes is to make it, which rounds every linear module that it is not told to skip.

    Attributes:
        double: whether the scales are in eight bits.
        skipped: the modules that are not in four bits, the output too, by names that transformers tells apart.
        torn: those of which only a part is, and which bitsandbytes can round whole or not at all.
    """

    double: bool
    skipped: list[str]
    torn: list[str]


def four_bits(model: nn.Module) -> FourBits | None:
    """None where nothing of the model is held in four bits."""
    placing = places(model)
    there = {
        theirs: [model.get_submodule(path) for path in ours] for theirs, ours in modules_of(model, placing).items()
    }
    held = {
        theirs: [layer.nf4 if isinstance(layer, LoraLinear) else None for layer in layers]
        for theirs, layers in there.items()
    }
    found = [nf4 for several in held.values() for nf4 in several if nf4 is not None]
    if not found:
        return None
    output = placing(f"{_output_layer(model)}.weight").tensor.removesuffix(".weight")
    plain = {output, *(theirs for theirs, several in held.items() if not any(several))}
    torn = [theirs for theirs, several in held.items() if any(several) and None in several]
    names: dict[str, None] = {}
    for path in (output, *held):
        if path in plain:
            end = re.split(r"(?:^|\.)\d+\.", path)[-1]
            # transformers skips whatever ends so, in the middle of a word too.
            names[end if all(other in plain for other in held if other.endswith(end)) else path] = None
    return FourBits(found[0].double_quantize, list(names), torn)


def _output_layer(model: nn.Module) -> str:
    """The path of the layer that makes the scores; in ours there is none where the embeddings do."""
    weight = getattr(model, "output_weight", None)
    linear = ((path, module) for path, module in model.named_modules() if not isinstance(module, nn.Embedding))
    return next((path for path, module in linear if getattr(module, "weight", None) is weight is not None), "lm_head")


def sizes_of(layer: nn.Module) -> tuple[int, int]:
    """in_features and out_features of a linear layer, adapted or not, Conv1D too."""
    if isinstance(layer, (nn.Linear, LoraLinear)):
        return layer.in_features, layer.out_features
    inner, outer = layer.get_parameter("weight").shape
    return inner, outer
