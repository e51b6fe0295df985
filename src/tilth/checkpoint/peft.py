"""Adapters in PEFT's format, both ways: adapter_config.json and adapter_model.safetensors, no pickle.

    save_adapter(model, folder)      what PeftModel.from_pretrained loads: here
    check_savable(model)             refuses what it would refuse, before anything is trained
    load_adapter(model, folder)      what PEFT, or tilth, saved, beside a base that fits: peft_load.py

Where their tensor holds several of our layers (GPT-2's `c_attn`), theirs comes apart exactly: each layer gets A, and
its rows of B. Ours goes together as an adapter of the summed rank: A stacked, B block-diagonal, alpha raised so that
the scaling stays; where the A are still equal it goes back as it came. `tilth.json` beside the two files names the base
by fingerprint. Shapes in names: O out_features, I in_features, K rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tilth.checkpoint.peft_config import CONFIG, OURS, UNKNOWN, WEIGHTS, Base, write_config
from tilth.checkpoint.peft_names import BEFORE, Placing, modules_of, parameter_names, places, sizes_of
from tilth.checkpoint.tensors import write_tensors
from tilth.core.errors import RecipeError, StorageError
from tilth.core.files import new_folder, write_json
from tilth.model.adapters import book_of
from tilth.model.dora import magnitudes
from tilth.model.lora import LoraLinear, LoraPart


def save_adapter(
    model: nn.Module, folder: Path, name: str | None = None, *, base: Base = UNKNOWN, placing: Placing | None = None
) -> None:
    """Writes an adapter, the chosen one if none is named, as a new folder that PEFT loads beside the same base.

    Args:
        placing: what our parameters are called in their model; left out: found from the model.
    """
    book = book_of(model)
    name = name or (book.chosen if book else None)
    if book is None or name not in book.configs:
        raise RecipeError(f"the model has no adapter {name!r} to save", "train one, or load it, first")
    if folder.exists():
        raise StorageError(f"{folder} is there already", "name a folder that is not there yet")
    placing = placing or places(model)
    tensors: dict[str, Tensor] = {}
    ranks, alphas, there = {}, {}, modules_of(model, placing)
    for theirs, ours in there.items():
        fused = _together(model, ours, name)
        if fused is not None:
            ranks[theirs], alphas[theirs] = fused.rank, fused.alpha
            tensors |= {f"{BEFORE}{theirs}.{key}": tensor for key, tensor in fused.tensors.items()}
    whole = _whole(model, book.saved.get(name, {}), placing)
    tensors |= {BEFORE + key: tensor for key, tensor in whole.items()}
    config = book.configs[name]
    options = {
        "base_model_name_or_path": base.name,
        "task_type": "CAUSAL_LM" if getattr(getattr(model, "config", None), "is_causal", True) else None,
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        "use_dora": config.dora,
        "fan_in_fan_out": any(placing(f"{ours[0]}.weight").transposed for ours in there.values()),
        "ensure_weight_tying": len({value.data_ptr() for value in whole.values()}) < len(whole),
    }
    modules = list(dict.fromkeys(key.rpartition(".")[0] for key in whole))
    with new_folder(folder) as temporary:
        write_tensors(temporary / WEIGHTS, tensors)
        write_json(temporary / CONFIG, write_config(ranks, alphas, modules, list(there), options))
        write_json(temporary / OURS, {"format": 1, "base": base.name, "base_fingerprint": base.fingerprint})


def check_savable(model: nn.Module) -> None:
    """RecipeError where the chosen adapter trains whole what its file cannot hold."""
    book = book_of(model)
    if book is not None and book.chosen is not None:
        _whole(model, book.saved.get(book.chosen, {}), places(model))


@dataclass(frozen=True, slots=True)
class _Fused:
    rank: int
    alpha: float
    tensors: dict[str, Tensor]


def _together(model: nn.Module, paths: list[str], name: str) -> _Fused | None:
    """The parts that an adapter has at layers of ours as one at theirs; None where it has none."""
    layers = [model.get_submodule(path) for path in paths]
    parts = [_part(layer, name) for layer in layers]
    own = [part for part in parts if part is not None]
    if not own:
        return None
    first = own[0]
    alike = len(own) == len(parts) and all(_same_reading(first, part) for part in own[1:])
    a_KI = first.lora_A if alike else torch.cat([part.lora_A for part in own])
    rank = len(a_KI)
    b_OK = first.lora_B.new_zeros(sum(sizes_of(layer)[1] for layer in layers), rank)
    row = column = 0
    for layer, part in zip(layers, parts, strict=True):
        rows = slice(row, row := row + sizes_of(layer)[1])
        if part is not None:
            columns = slice(0, rank) if alike else slice(column, column := column + part.rank)
            b_OK[rows, columns] = part.lora_B.detach() * (part.scaling / first.scaling)
    tensors = {"lora_A.weight": a_KI.detach(), "lora_B.weight": b_OK}
    if first.magnitude is not None:
        lengths = [_magnitude(layer, part) for layer, part in zip(layers, parts, strict=True)]
        tensors["lora_magnitude_vector"] = torch.cat(lengths)
    return _Fused(rank, first.scaling * (math.sqrt(rank) if first.rslora else rank), tensors)


def _same_reading(first: LoraPart, other: LoraPart) -> bool:
    return first.scaling == other.scaling and torch.equal(first.lora_A, other.lora_A)


def _part(layer: nn.Module, name: str) -> LoraPart | None:
    if not isinstance(layer, LoraLinear) or name not in layer.adapters:
        return None
    part = layer.adapters[name]
    assert isinstance(part, LoraPart)
    return part


@torch.no_grad()
def _magnitude(layer: nn.Module, part: LoraPart | None) -> Tensor:
    if part is not None and part.magnitude is not None:
        return part.magnitude.detach()
    # A row that DoRA leaves alone has its own length.
    return magnitudes((layer if isinstance(layer, LoraLinear) else LoraLinear(layer)).frozen.pieces(torch.float32))


def _whole(model: nn.Module, saved: Mapping[str, Tensor], placing: Placing) -> dict[str, Tensor]:
    """What was trained whole, by their names: under each name of a tied tensor, so that PEFT, too, ties it, and with
    all else that its modules hold, since PEFT wants them complete.
    """
    names = parameter_names(model)
    wanted = {placing(name).tensor.rpartition(".")[0] for key in saved for name in names[key]}
    found: dict[str, Tensor] = {}
    for key, several in names.items():
        for place, name in ((placing(name), name) for name in several):
            if place.tensor.rpartition(".")[0] not in wanted:
                continue
            if place.parts > 1:
                raise RecipeError(
                    f"adapter.modules_to_save: {name} is a part of {place.tensor} in the base's own format, and cannot "
                    "be saved alone",
                    "give it an adapter instead",
                )
            tensor = saved.get(key, model.get_parameter(key)).detach()
            found[place.tensor] = tensor.T.contiguous() if place.transposed else tensor
    return found
