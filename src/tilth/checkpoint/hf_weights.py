"""Weights of a Hugging Face checkpoint into the model, and the model's as such: tensor by tensor, no second copy.

    load_checkpoint(folder, device) -> Loaded           a native family's folder as a `Transformer`
    load_later(folder, config, device)                  the same, or tilth's own; matrices stay in their files at first
    check_folder(folder) -> [Stored]                    whether that could be done, by headers alone
    check_weights(hf, stored)                           before anything is allocated
    entries(config, tensors, dtype) -> [Entry]          what a checkpoint of its family holds, to be written

Both ways use the family's names (`model/families`); a tensor may hold several of ours, and be transposed. Parts are
views: nothing is computed, so what came in goes out with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tilth.checkpoint.safetensors_files import FLOATS, SINGLE, Stored, open_folder, read_header
from tilth.checkpoint.tensors import Entry
from tilth.core.errors import CheckpointError
from tilth.model.adapters import matrices
from tilth.model.config import ModelConfig, parameter_count
from tilth.model.families import Family, HfModel, Place, family_of, read_hf_config
from tilth.model.finite import is_finite, no_number
from tilth.model.transformer import Transformer, build
from tilth.model.unread import build_unread, is_unread

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Loaded:
    """A model from elsewhere. `ignored`: tensors that it does not need, with the reason."""

    model: Transformer
    hf: HfModel
    ignored: dict[str, str]


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor that a checkpoint holds, and which of our parameters lie in it, in order."""

    shape: Shape
    parts: tuple[tuple[str, Place], ...]
    outputs: tuple[int, ...]
    """Of each part."""


def load_checkpoint(
    folder: Path,
    device: torch.device | str = "cpu",
    change: Callable[[ModelConfig], ModelConfig] = lambda config: config,
    dtype: torch.dtype = torch.float32,
) -> Loaded:
    """The model of a Hugging Face folder of a native family, on `device`, in `dtype`.

    Args:
        change: what the recipe wants otherwise (context_length, dropout); nothing that changes shapes.
    """
    hf, stored = _opened(folder)
    plan, ignored = check_weights(hf, stored, folder)
    model = build(change(hf.config), None, device, dtype)
    load_into(model, plan, stored)
    return Loaded(model, hf, ignored)


def load_later(folder: Path, config: ModelConfig, device: torch.device | str, *, foreign: bool) -> Transformer:
    """A model whose layers an adapter will be beside: what these hold is checked, and stays in its files until the
    adapter is there (`model/unread.py`).

    Args:
        foreign: whether the folder is Hugging Face's, of a native family, and not tilth's own.
    """
    if foreign:
        hf, stored = _opened(folder)
        plan, _ = check_weights(hf, stored, folder)
    else:
        stored = read_header(folder / SINGLE)
        plan = _own_slots(config)
        _refuse(_faults(plan, stored, set()), folder)
    places = {name: (key, index) for key, slot in plan.items() for index, (name, _) in enumerate(slot.parts)}

    def fill(name: str, target: Tensor) -> None:
        key, index = places[name]
        targets = [target if at == index else None for at in range(len(plan[key].parts))]
        for first, rows in stored[key].pieces():
            _spread(plan[key], targets, first, rows)

    model = build_unread(config, device, matrices, fill)
    load_into(model, plan, stored)
    return model


def _own_slots(config: ModelConfig) -> dict[str, Slot]:
    """What a file of tilth's own holds: each of our tensors by itself."""
    with torch.device("meta"):
        own = Transformer(config).state_dict()
    return {name: Slot(tuple(tensor.shape), ((name, Place(name)),), (len(tensor),)) for name, tensor in own.items()}


def check_folder(folder: Path) -> list[Stored]:
    """The tensors that would be loaded; CheckpointError when a folder's files contradict its config.json. Headers tell,
    no weights are read.
    """
    hf, stored = _opened(folder)
    plan, _ = check_weights(hf, stored, folder)
    return [stored[name] for name in plan]


def _opened(folder: Path) -> tuple[HfModel, dict[str, Stored]]:
    hf = read_hf_config(folder)
    return hf, {hf.family.today(name): tensor for name, tensor in open_folder(folder).items()}


def slots(config: ModelConfig, family: Family) -> dict[str, Slot]:
    """What a checkpoint of the family holds for this config, by name; nothing is allocated."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in Transformer(config).state_dict().items()}
    parts: dict[str, list[tuple[str, Place]]] = {}
    for name in shapes:
        place = family.place(name)
        parts.setdefault(place.tensor, []).append((name, place))
    return {tensor: _slot(sorted(own, key=lambda part: part[1].part), shapes) for tensor, own in parts.items()}


def _slot(parts: list[tuple[str, Place]], shapes: Mapping[str, Shape]) -> Slot:
    outputs = tuple(shapes[name][0] for name, _ in parts)
    shape = (sum(outputs), *shapes[parts[0][0]][1:])
    return Slot(shape[::-1] if parts[0][1].transposed else shape, tuple(parts), outputs)


def check_weights(hf: HfModel, stored: Mapping[str, Stored], folder: Path) -> tuple[dict[str, Slot], dict[str, str]]:
    """Compares a folder's tensors with what its config.json implies; returns the plan, and what is left aside and why.

    CheckpointError names what is missing, extra, misshapen or of a type that holds no weights.
    """
    claimed, held = parameter_count(hf.config), sum(tensor.elements for tensor in stored.values())
    if claimed > 2 * held:  # before even names are made: config.json may claim a model of any size
        raise CheckpointError(
            f"{folder / 'config.json'} is of {claimed:,} parameters, and the files beside it hold {held:,}",
            "a shard is missing, or the two do not belong together: get them again",
        )
    plan = slots(hf.config, hf.family)
    ignored = {name: reason for name in stored if name not in plan and (reason := hf.family.reason_to_ignore(name))}
    copies = {name: hf.family.copies[name] for name in stored if name in hf.family.copies and name not in plan}
    _refuse(_faults(plan, stored, {*ignored, *copies}), folder)
    for name, original in copies.items():
        if not _same(stored[name], stored[original]):
            raise CheckpointError(
                f"{folder}: {name} and {original} differ, and config.json ties them (tie_word_embeddings)",
                "set tie_word_embeddings: false in config.json if the model was trained so, or get the weights again",
            )
        ignored[name] = f"it repeats {original}"
    return plan, ignored


def _faults(plan: Mapping[str, Slot], stored: Mapping[str, Stored], aside: set[str]) -> list[str]:
    faults = [f"{name} is missing" for name in plan if name not in stored]
    faults += [f"{name} is unknown" for name in stored if name not in plan and name not in aside]
    for name in (name for name in plan if name in stored):
        if stored[name].shape != plan[name].shape:
            faults.append(f"{name} is {list(stored[name].shape)}, not {list(plan[name].shape)}")
        elif stored[name].dtype not in FLOATS:
            faults.append(f"{name} is of the type {stored[name].dtype}")
    return faults


def _refuse(faults: list[str], folder: Path) -> None:
    if faults:
        more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
        raise CheckpointError(
            f"the weights in {folder} are not those of its config.json: {'; '.join(faults[:5])}{more}",
            "get config.json and weights from one revision; quantised or merged ones need another tool first",
        )


def _same(one: Stored, other: Stored) -> bool:
    """Whether two tensors hold the same numbers, compared piece by piece."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return all(torch.equal(mine, theirs) for (_, mine), (_, theirs) in zip(one.pieces(), other.pieces(), strict=True))


@torch.no_grad()
def load_into(model: Transformer, plan: Mapping[str, Slot], stored: Mapping[str, Stored]) -> None:
    """Reads every tensor of the plan into the parameters that lie in it, converted to their type and device; those that
    are to stay unread are looked through.

    CheckpointError names the first that holds what is no finite number.
    """
    own = model.state_dict(keep_vars=True)
    for name, slot in plan.items():
        targets = [None if is_unread(own[part]) else own[part] for part, _ in slot.parts]
        for first, rows in stored[name].pieces():
            if not is_finite(rows):
                raise no_number(stored[name].file, stored[name].name)
            _spread(slot, targets, first, rows)


def _spread(slot: Slot, targets: Sequence[Tensor | None], first: int, rows: Tensor) -> None:
    """Copies some rows of a stored tensor to where they belong; `targets` are its parts, None where not wanted."""
    last = first + len(rows)
    if rows.dtype == torch.float64:  # to half precision as from fp32, whichever way it comes there
        rows = rows.float()
    if slot.parts[0][1].transposed:
        for target, columns in zip(targets, torch.split(rows, list(slot.outputs), dim=1), strict=True):
            if target is not None:
                target[:, first:last].copy_(columns.T)
        return
    begin = 0
    for target, outputs in zip(targets, slot.outputs, strict=True):
        low, high = max(first, begin), min(last, begin + outputs)
        if target is not None and low < high:
            target[low - begin : high - begin].copy_(rows[low - first : high - first])
        begin += outputs


def entries(config: ModelConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> list[Entry]:
    """What a checkpoint of the config's family holds, made when it is written.

    Args:
        tensors: the model's own, by its names.
        dtype: to be written in; left out: their own.
    """
    return [
        Entry(name, dtype or tensors[slot.parts[0][0]].dtype, slot.shape, partial(_gather, slot, tensors))
        for name, slot in slots(config, family_of(config)).items()
    ]


def _gather(slot: Slot, tensors: Mapping[str, Tensor]) -> Tensor:
    parts = [tensors[name] for name, _ in slot.parts]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    return whole.T if slot.parts[0][1].transposed else whole
