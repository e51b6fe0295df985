"""What the layers of a model are called in the Hugging Face model that PEFT's files speak of.

    places(model) -> Placing          from one of our parameter names to the tensor that it lies in
    modules_of(model, placing)        their linear modules, each with ours that lie in it
    parameter_names(model)            the base's parameters, with all names of each

A tensor of theirs can hold several of ours, one after another along its outputs, as GPT-2's `c_attn` does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from tilth.model.adapters import adaptable
from tilth.model.lora import LoraLinear
from tilth.model.transformer import Transformer

BEFORE = "base_model.model."
"""What PEFT writes in front of every name."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one of our parameters lies: in a tensor, which may be stored [in, out], as which of how many parts."""

    tensor: str
    transposed: bool = False
    part: int = 0
    parts: int = 1


Placing = Callable[[str], Place]

_GPT2 = {
    "embed_tokens": "transformer.wte",
    "embed_positions": "transformer.wpe",
    "norm": "transformer.ln_f",
    "lm_head": "lm_head",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "self_attn.o_proj": "attn.c_proj",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
}
_FUSED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


def places(model: nn.Module) -> Placing:
    """Of our own model the names of its family; of any other module its own."""
    if isinstance(model, Transformer):
        return _gpt2 if model.config.position == "learned" else _llama
    conv = {path for path, module in model.named_modules() if type(module).__name__ == "Conv1D"}
    conv |= {path for path, module in model.named_modules() if getattr(module, "transposed", False) is True}
    return lambda name: Place(name, name.rpartition(".")[0] in conv)


def _llama(name: str) -> Place:
    return Place(name if name.startswith("lm_head.") else f"model.{name}")


def _gpt2(name: str) -> Place:
    module, _, kind = name.rpartition(".")
    if not module.startswith("layers."):
        return Place(f"{_GPT2[module]}.{kind}")
    _, layer, inner = module.split(".", 2)
    transposed = kind == "weight" and "norm" not in inner
    if inner in _FUSED:
        return Place(f"transformer.h.{layer}.attn.c_attn.{kind}", transposed, _FUSED.index(inner), len(_FUSED))
    return Place(f"transformer.h.{layer}.{_GPT2[inner]}.{kind}", transposed)


def modules_of(model: nn.Module, placing: Placing) -> dict[str, list[str]]:
    """Their linear modules, each with ours that lie in it, in the order of its outputs."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for path in adaptable(model):
        place = placing(f"{path}.weight")
        found[place.tensor.removesuffix(".weight")].append((place.part, path))
    return {theirs: [path for _, path in sorted(parts)] for theirs, parts in found.items()}


def parameter_names(model: nn.Module) -> dict[str, list[str]]:
    """The base's parameters by the name that `named_parameters` gives them, with all names that each has: several where
    it is tied, the output matrix's too where that is the embedding and stands for itself nowhere.
    """
    first: dict[int, str] = {}
    names: dict[str, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if ".adapters." not in name:
            names[first.setdefault(id(parameter), name)].append(name)
    output = id(getattr(model, "output_weight", None))
    if output in first and isinstance(model, Transformer) and model.lm_head is None:
        names[first[output]].append("lm_head.weight")
    return dict(names)


def sizes_of(layer: nn.Module) -> tuple[int, int]:
    """in_features and out_features of a linear layer, adapted or not, Conv1D too."""
    if isinstance(layer, (nn.Linear, LoraLinear)):
        return layer.in_features, layer.out_features
    inner, outer = layer.get_parameter("weight").shape
    return inner, outer
