"""An adapter that PEFT or tilth saved, put beside a base that fits: `load_adapter`. The format is told in peft.py.

Nothing is added to the model before everything fits: the file's tensors are placed first, and whatever has no place, or
another shape, is named. Shapes in names: O out_features, I in_features, K rank.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tilth.checkpoint.peft_config import OURS, UNKNOWN, WEIGHTS, Base, PeftConfig, merging, read_config
from tilth.checkpoint.peft_names import BEFORE, Placing, modules_of, parameter_names, places, sizes_of
from tilth.checkpoint.peft_targets import check_ranks, check_targets
from tilth.checkpoint.tensors import read_tensors
from tilth.core.errors import CheckpointError
from tilth.model import adapters
from tilth.model.adapter_config import AdapterConfig
from tilth.model.finite import is_finite
from tilth.model.lora import LoraPart

_ENDS = re.compile(r"(.+)\.(lora_A\.weight|lora_B\.weight|lora_magnitude_vector)(?:\.weight)?")

_TIE = (
    "; or train it with `LoraConfig(…, ensure_weight_tying=True)`, which tilth loads (one that was trained beside an "
    "untied base: load that)"
)
_AT_EMBEDDING = re.compile(r"(.+)\.lora_embedding_[AB]")


def load_adapter(
    model: nn.Module,
    folder: Path,
    *,
    name: str = adapters.DEFAULT,
    trainable: bool = False,
    base: Base = UNKNOWN,
    placing: Placing | None = None,
) -> AdapterConfig:
    """Puts an adapter that PEFT or tilth saved beside `model`, and chooses it.

    CheckpointError when it is damaged, is of a kind that tilth lacks, or belongs to another base: by fingerprint, by
    Hub id, or by what its tensors are called and how large they are.
    """
    config = read_config(folder)
    _check_base(folder, config, base)
    tensors = _read_weights(folder)
    placing = placing or places(model)
    plan = _plan(model, tensors, config, placing)
    adapters.choose(model, None)
    adapters.start_adapter(model, plan.config, name)
    for path, part in plan.parts.items():
        adapters.add_layer(model, path, name, part)
    adapters.add_saved(model, name, plan.saved)
    adapters.choose(model, name, trainable=trainable)
    return plan.config


def _check_base(folder: Path, config: PeftConfig, base: Base) -> None:
    remedy = "load the base that it was trained beside, or train an adapter for this one"
    known = _read_ours(folder).get("base_fingerprint")
    if isinstance(known, str) and base.fingerprint is not None:
        if known != base.fingerprint:
            raise CheckpointError(
                f"the adapter in {folder} was trained beside other weights ({config.base_name or 'no Hub id'}, "
                f"fingerprint {known[:12]}) than these ({base.name or 'no Hub id'}, {base.fingerprint[:12]})",
                remedy,
            )
        return  # the same weights, whatever they are called
    theirs, ours = (_last(name) for name in (config.base_name, base.name))
    if theirs and ours and theirs != ours:
        raise CheckpointError(
            f"the adapter in {folder} was trained beside {config.base_name}, and this is {base.name}", remedy
        )


def _last(name: str | None) -> str | None:
    """What a Hub id ends with; None for a path. An organisation can have been renamed, a model hardly."""
    hub = name is not None and re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name)
    return name.rpartition("/")[2].lower() if name is not None and hub else None


def _read_ours(folder: Path) -> dict[str, object]:
    try:
        text = (folder / OURS).read_bytes()[: 1 << 20]
    except OSError:
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / OURS} is damaged: {error}", "get the folder again, or remove it") from None
    return values if isinstance(values, dict) else {}


def _read_weights(folder: Path) -> dict[str, Tensor]:
    if not (folder / WEIGHTS).exists() and (folder / "adapter_model.bin").exists():
        raise CheckpointError(
            f"{folder} has its weights as a pickle (adapter_model.bin), which can run code when it is read",
            "load it with PEFT where you trust it, and save it again: PEFT writes safetensors",
        )
    tensors = read_tensors(folder / WEIGHTS)
    for key, tensor in tensors.items():
        if not tensor.is_floating_point() or not is_finite(tensor):
            raise CheckpointError(f"{folder / WEIGHTS}: {key} holds what is no finite number", "use another adapter")
    return tensors


@dataclass(frozen=True, slots=True)
class _Plan:
    config: AdapterConfig
    parts: dict[str, LoraPart]
    saved: dict[str, Tensor]


def _plan(model: nn.Module, tensors: Mapping[str, Tensor], config: PeftConfig, placing: Placing) -> _Plan:
    """What of the file goes where; CheckpointError lists what does not fit."""
    lora: dict[str, dict[str, Tensor]] = defaultdict(dict)
    rest: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        key = key.removeprefix(BEFORE)
        if match := _ENDS.fullmatch(key):
            lora[match[1]][match[2].removesuffix(".weight")] = tensor
        else:
            rest[key] = tensor
    faults: list[str] = []
    modules, parts = modules_of(model, placing), dict[str, LoraPart]()
    _check_places(model, {*lora, *_embeddings(rest)} - modules.keys(), config, placing)
    for theirs, found in lora.items():
        if theirs not in modules:
            faults.append(f"it is at {theirs}, which the base lacks")
        elif fault := _misfit(model, modules[theirs], found, config.dora):
            faults.append(f"{theirs}: {fault}")
        else:
            parts |= _apart(model, modules[theirs], found, config, config.alpha_of(theirs))
    saved, apart = _placed(model, rest, config, placing, faults)
    if apart and not faults:
        raise CheckpointError(
            f"the adapter in {config.place.parent} has {apart} trained apart, and this base ties it: of each module "
            "that `modules_to_save` names PEFT trains a copy of its own, and here both are one matrix",
            merging(config.place.parent, tied=True) + ("" if config.tied else _TIE),
        )
    if faults or not (parts or saved):
        said = "; ".join(faults[:5]) or "it is empty"
        more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
        raise CheckpointError(
            f"the adapter in {config.place.parent} does not fit this base: {said}{more}",
            f"load the base that it was trained beside ({config.base_name or 'which it does not name'})",
        )
    check_ranks(config, {theirs: len(found["lora_A"]) for theirs, found in lora.items()})
    check_targets(config, modules, lora.keys(), {key.rpartition(".")[0] for key in rest})
    whole = list(dict.fromkeys(key.rpartition(".")[0] for key in saved if "." in key))
    ours = AdapterConfig(
        rank=config.rank,
        alpha=float(config.alpha),
        dropout=float(config.dropout),
        targets=list(parts) or "all-linear",
        rslora=config.rslora,
        dora=config.dora,
        modules_to_save=whole,
    )
    return _Plan(ours, parts, saved)


def _embeddings(rest: Iterable[str]) -> set[str]:
    return {match[1] for key in rest if (match := _AT_EMBEDDING.fullmatch(key))}


def _check_places(model: nn.Module, at: Iterable[str], config: PeftConfig, placing: Placing) -> None:
    """CheckpointError for LoRA at what is no linear layer of the base, and yet is there: embeddings, and the output."""
    tensors = [[placing(name).tensor for name in several] for several in parameter_names(model).values()]
    tied = {tensor.removesuffix(".weight"): len(several) > 1 for several in tensors for tensor in several}
    if found := sorted(tied.keys() & set(at)):
        remedy = merging(config.place.parent, tied=any(tied[theirs] for theirs in found))
        raise CheckpointError(
            f"{config.place}: it has LoRA at {' and '.join(found)}, and tilth has none at embeddings and the output",
            f"use an adapter without it, or {remedy}",
        )


def _misfit(model: nn.Module, paths: list[str], found: Mapping[str, Tensor], dora: bool) -> str | None:
    """What of a module's tensors does not fit our layers, if anything does not."""
    wanted = {"lora_A", "lora_B"} | ({"lora_magnitude_vector"} if dora else set())
    if found.keys() != wanted:
        return f"it has {', '.join(sorted(found))}, not {', '.join(sorted(wanted))}"
    layers = [model.get_submodule(path) for path in paths]
    inputs, outputs, rank = sizes_of(layers[0])[0], sum(sizes_of(layer)[1] for layer in layers), len(found["lora_A"])
    shapes = {"lora_A": [rank, inputs], "lora_B": [outputs, rank], "lora_magnitude_vector": [outputs]}
    for key, tensor in found.items():
        if list(tensor.shape) != shapes[key] or not rank:
            return f"{key} is {list(tensor.shape)}, and the base needs {shapes[key]}"
    return None


def _apart(
    model: nn.Module, paths: list[str], found: Mapping[str, Tensor], config: PeftConfig, alpha: float
) -> dict[str, LoraPart]:
    """A module's adapter at each of our layers that lie in it: A for all, B and magnitudes cut by rows."""
    parts, row = {}, 0
    for path in paths:
        sizes = sizes_of(model.get_submodule(path))
        rows = slice(row, row := row + sizes[1])
        part = LoraPart(len(found["lora_A"]), alpha, sizes, rslora=config.rslora, dropout=config.dropout)
        part.lora_A.data.copy_(found["lora_A"])
        part.lora_B.data.copy_(found["lora_B"][rows])
        if config.dora:
            part.magnitude = nn.Parameter(found["lora_magnitude_vector"][rows].float().clone())
        parts[path] = part
    return parts


def _placed(
    model: nn.Module, rest: Mapping[str, Tensor], config: PeftConfig, placing: Placing, faults: list[str]
) -> tuple[dict[str, Tensor], str]:
    """What was trained whole, by our names, and of what the base ties what was not trained so, if anything. What does
    not fit is added to `faults`.
    """
    names, ours, apart = parameter_names(model), dict[str, Tensor](), list[str]()
    there = {placing(name): key for key, several in names.items() for name in several}
    by_tensor = {place.tensor: (key, place) for place, key in there.items() if place.parts == 1}
    for theirs, tensor in rest.items():
        key, place = by_tensor.get(theirs, ("", None))
        if place is None:
            faults.append(f"it holds {theirs}, which the base lacks")
            continue
        tensor = tensor.T if place.transposed else tensor
        if tensor.shape != (now := model.get_parameter(key)).shape:
            faults.append(f"{theirs} is {list(tensor.shape)}, and the base has {list(now.shape)}")
        elif key in ours and not torch.equal(ours[key], tensor):
            apart += [placing(name).tensor for name in names[key]]
        ours[key] = tensor
    for key in ours:
        tied = [placing(name).tensor for name in names[key]]
        if not config.tied and any(theirs not in rest for theirs in tied):
            apart += [theirs for theirs in tied if theirs in rest]
    # A bias of the model itself only completes PEFT's output layer, unless it was changed.
    saved = {key: tensor for key, tensor in ours.items() if "." in key or not _is_base(model, key, tensor)}
    return saved, " and ".join(dict.fromkeys(apart))


def _is_base(model: nn.Module, key: str, tensor: Tensor) -> bool:
    base = model.get_parameter(key).detach()
    return torch.equal(tensor.to(base.device, base.dtype), base)
