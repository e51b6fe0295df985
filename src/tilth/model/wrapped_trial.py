"""Whether a class of transformers keeps the documents of a row apart, before its weights are loaded.

    small_keeps_apart(config) -> bool | None     tried on a model of the same class, with few layers and small experts

What a small model passes on from document to document, the whole one does, which has layers of the same kinds. The
other way round it says nothing: the real model is tried when its weights are there (wrapped.py).
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from tilth.core.errors import TilthError
from tilth.model.wrapped import build_wrapped, empty_model
from tilth.model.wrapped_config import WrappedConfig

_DEPTHS = (8, 4, 2)
"""Layers, of which the most are taken that fit: kinds of layers take turns, and the first attention may come late."""
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_SMALL = {"intermediate_size": 64, "moe_intermediate_size": 64, "ffn_dim": 64, "n_inner": 64,
          "num_local_experts": 8, "num_experts": 8}  # fmt: skip
"""What may be smaller without another size having to fit."""
_VOCABULARY = 512
_MOST = 1 << 27
"""Numbers of a model that is made for this: half a gigabyte, drawn in a second or two."""
_FAULTS = (TilthError, OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError, IndexError,
           ZeroDivisionError, AssertionError, NotImplementedError)  # fmt: skip
"""What comes of a class whose config cannot be made small like this; the weights will tell then."""


def small_keeps_apart(config: WrappedConfig) -> bool | None:
    """False where the class does not; None where no small model of it could be made."""
    return _tried(json.dumps(config.model_dump(), sort_keys=True))


@lru_cache(maxsize=8)
def _tried(dumped: str) -> bool | None:
    config = WrappedConfig.model_validate_json(dumped)
    for depth in _DEPTHS:
        small = _made_small(config, depth)
        try:
            if sum(weight.numel() for weight in empty_model(small, "meta").parameters()) <= _MOST:
                return build_wrapped(small).packs
        except _FAULTS:
            continue
    return None


def _made_small(config: WrappedConfig, depth: int) -> WrappedConfig:
    layers, words = config.num_hidden_layers, min(config.vocab_size, _VOCABULARY)
    depth = min(depth, layers)
    chosen = _of_each_kind(config, depth)

    def small(key: str, value: Any) -> Any:
        if key in _LAYERS and value == layers:
            return depth
        if isinstance(value, list) and len(value) == layers:  # of what kind each is
            return [value[layer] for layer in chosen]
        if isinstance(value, list) and value and key.endswith("_indices"):  # which are of a kind
            return [number for number in value if number < depth] or [depth - 1]
        if key in _SMALL and isinstance(value, int):
            return min(value, _SMALL[key])
        if key.endswith("_token_id") and isinstance(value, int):
            return value if value < words else 0
        return value

    values = {key: small(key, value) for key, value in config.values.items()}
    return config.model_copy(update={"values": values, "num_hidden_layers": depth, "vocab_size": words})


def _of_each_kind(config: WrappedConfig, depth: int) -> list[int]:
    """The first layers, with the first of a kind that is not among them in the place of the last ones."""
    layers = config.num_hidden_layers
    lists = [value for value in config.values.values() if isinstance(value, list) and len(value) == layers]
    kinds = [json.dumps([each[layer] for each in lists if isinstance(each[layer], str)]) for layer in range(layers)]
    late = [first for kind in set(kinds) if (first := kinds.index(kind)) >= depth][:depth]
    return sorted([*range(depth - len(late)), *late])
