"""Families of Hugging Face that the one model speaks: config.json and tensor names, both ways. No torch.

    read_hf_config(folder) -> HfModel         a checkpoint's family and `ModelConfig`, or a CheckpointError
    family_of(config) -> Family               the family that a config is exported to, or a RecipeError
    write_hf_config(config, special) -> dict  its config.json

    base.py       what a family is
    decoder.py    what families that name their tensors as we do have in common
    gpt2.py    llama.py (Mistral, Qwen2, Qwen3, OLMo 2)    gemma.py    bert.py

A key that would change what the model computes is read or refused, never passed over. What cannot be written is found
by reading it back: whatever differs then is named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth.core.config import parse
from tilth.core.errors import BETWEEN_FAULTS, CheckpointError, RecipeError, TilthError
from tilth.model.config import ModelConfig
from tilth.model.families import bert, gemma, gpt2, llama
from tilth.model.families.base import USE_WRAPPED, Family, Keys, Place

__all__ = [
    "FAMILIES",
    "WRAPPED_CONTEXT",
    "Family",
    "HfModel",
    "Place",
    "family_of",
    "read_hf_config",
    "read_json_config",
    "write_hf_config",
]

FAMILIES: dict[str, Family] = {
    family.model_type: family for module in (gpt2, llama, gemma, bert) for family in module.FAMILIES
}
"""By model type; a config without a family is exported to the first that can express it."""
_OF_BIAS = ("attention_bias", "attention_output_bias", "mlp_bias")
LARGEST_CONFIG = 1 << 20
WRAPPED_CONTEXT = "tilth_context_length"
"""The key of config.json under which a model that tilth trained through transformers' class keeps how many tokens it
reads at once: where it stands, that class is used again."""
_OF_TRAINING = ("family", "context_length", "dropout", "attention_dropout", "initializer_range")


@dataclass(frozen=True)
class HfModel:
    """What config.json says: the family, our configuration, and the file as it is."""

    family: Family
    config: ModelConfig
    values: Mapping[str, Any]


def read_hf_config(folder: Path) -> HfModel:
    """The model of a Hugging Face folder that tilth has itself. CheckpointError names what stands in the way."""
    values, place = read_json_config(folder), folder / "config.json"
    model_type, named = values.get("model_type"), _names(values.get("architectures"))
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise _unknown(place, model_type, named, "auto_map" in values)
    if named and not set(named) & {family.architecture, *family.also}:
        raise CheckpointError(
            f"{place} is of {', '.join(named)}, which is no language model of the type {model_type}",
            f"name a checkpoint of {family.architecture}",
        )
    keys = Keys(values, str(place))
    try:
        config = parse(ModelConfig, {"family": family.model_type, **family.read(keys)}, str(place))
    except RecipeError as error:
        faults = error.message.replace(BETWEEN_FAULTS, "; ")
        raise CheckpointError(faults, "the file is damaged, or of a model that tilth lacks") from None
    except (TypeError, AttributeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{place} has a value of a wrong kind: {error}", "get the file again") from None
    keys.finish()
    return HfModel(family, config, values)


def _names(value: object) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []


def read_json_config(folder: Path) -> dict[str, Any]:
    """config.json as it is; CheckpointError when it is missing, damaged or no mapping."""
    place = folder / "config.json"
    try:
        if place.stat().st_size > LARGEST_CONFIG:
            raise CheckpointError(f"{place} has {place.stat().st_size:,} bytes", "no configuration is that large")
        values = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{place} is missing", "name a folder that holds config.json beside its weights"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{place} is damaged: {error}", "get the file again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{place} holds a {type(values).__name__}, not keys and values", "get the file again")
    return values


def _unknown(place: Path, model_type: object, named: list[str], needs_code: bool) -> CheckpointError:
    what = f"{place} is of model type {model_type!r} (architectures {named!r})"
    if needs_code:
        return CheckpointError(
            f"{what}, which needs code that comes with the checkpoint (auto_map), and that is never run",
            f"use a family that tilth has ({', '.join(FAMILIES)}), or one that transformers has",
        )
    return CheckpointError(
        f"{what}, which tilth's own model does not have",
        f"tilth has {', '.join(FAMILIES)}; for any other causal or masked architecture that transformers knows, "
        f"{USE_WRAPPED}",
    )


def family_of(config: ModelConfig) -> Family:
    """The family that can express a config: its own, or the first. RecipeError names the option that stands in the way
    of the nearest.
    """
    if config.family is not None and config.family not in FAMILIES:
        raise RecipeError(f"model.family is {config.family!r}", f"use one of {', '.join(FAMILIES)}, or leave it out")
    tried = [FAMILIES[config.family]] if config.family else list(FAMILIES.values())
    faults = {family.model_type: _inexpressible(config, family) for family in tried}
    nearest = min(tried, key=lambda family: len(faults[family.model_type]))
    if found := faults[nearest.model_type]:
        raise RecipeError(
            f"no class of Hugging Face computes this model; the nearest is {nearest.architecture}, in the way is "
            + "; ".join(found),
            "set these options as that class has them, and train; or keep the model as tilth writes it",
        )
    return nearest


def _inexpressible(config: ModelConfig, family: Family) -> list[str]:
    """What differs when the family's config.json is written and read back."""
    try:
        values = family.write(config)
        back = parse(ModelConfig, family.read(Keys(values, family.model_type)), family.model_type).resolved()
    except TilthError as error:
        return [error.message]
    own = config.resolved()
    differing = [key for key in own if key not in _OF_TRAINING and own[key] != back[key]]
    if "bias" in differing:  # what follows from it need not be said too
        differing = [key for key in differing if not (key in _OF_BIAS and getattr(config, key) is None)]
    return [f"model.{key}: {own[key]} (there: {back[key]})" for key in differing]


def write_hf_config(
    config: ModelConfig, special: Mapping[str, Any] | None = None, dtype: str = "float32"
) -> dict[str, Any]:
    """config.json of the family that can express it.

    Args:
        special: bos_token_id, eos_token_id and pad_token_id, as far as there are such; not over the family's own.
        dtype: of the weights beside it, by torch's name.
    """
    family = family_of(config)
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")) | dict(special or {})
    written = {**ids, **family.write(config)}
    return {"architectures": [family.architecture], "model_type": family.model_type, **written, "torch_dtype": dtype}
