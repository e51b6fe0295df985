"""The job behind `tilth export`: any model that can be loaded, as a folder that other programs load.

    export_model(path, out, …)         as Hugging Face has it: an adapter is merged into its base
    export_adapter(path, out, …)       as PEFT has it: the adapter alone, to be loaded beside its base
    push_folder(folder, name)          what one of them wrote, onto the hub

The folder appears whole or not at all, with chat template, generation_config.json and a card (beside.py, card.py).
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tilth.checkpoint.hf_weights import slots
from tilth.checkpoint.peft import save_adapter
from tilth.checkpoint.peft_config import Base as PeftBase
from tilth.checkpoint.peft_names import four_bits
from tilth.checkpoint.safetensors_files import FLOATS, open_folder
from tilth.checkpoint.trainable import base_fingerprint, check_base
from tilth.core.errors import CheckpointError, RecipeError
from tilth.core.files import MANIFEST, disk, new_folder, verify_manifest, write_json
from tilth.exporting.hf import SHARD_BYTES, DtypeName, Exported, copy_files, export_hf
from tilth.exporting.push import Pushed, push
from tilth.jobs.base import Base, open_base
from tilth.jobs.beside import (
    base_facts,
    files_beside,
    is_foreign,
    mask_of,
    origin_of,
    special_ids,
    step_of,
    tokenizer_folder,
)
from tilth.jobs.card import Model, Use, model_card
from tilth.jobs.load import LanguageModel, load
from tilth.jobs.places import BASE_FILE, Which
from tilth.jobs.runs import not_the_end
from tilth.jobs.start import base_model
from tilth.model.adapters import add_saved, book_of, choose, merge_and_unload
from tilth.model.families import family_of
from tilth.model.wrapped import AnyModel, WrappedModel
from tilth.model.wrapped_aside import reason_to_ignore

README = "README.md"
Say = Callable[[str], None]


def export_model(
    path: Path | str,
    out: Path | str,
    which: Which = "final",
    dtype: DtypeName | None = None,
    max_shard_bytes: int = SHARD_BYTES,
    name: str | None = None,
    wrapped: bool | None = None,
    say: Say = lambda text: None,
) -> Exported:
    """Writes what `load(path)` gives as a folder that transformers loads; an adapter goes into the weights.

    Args:
        dtype: of the weights; left out: of a checkpoint that nothing was done to each as it is stored, else fp32.
        name: what the card calls it; left out: the folder.
        wrapped: as of `load`.
        say: is told where these are not the weights of the run's end.

    RecipeError when `out` exists, or no class of Hugging Face computes the model; it names the option in the way.
    """
    _is_new(Path(out))
    found = _loaded(path, which, say, wrapped)
    model, origin, beside = found.model, origin_of(found), base_facts(found)
    base = beside["from"] if beside else origin.recipe.model.from_ if origin else None
    types = None
    if dtype is None and origin is None and beside is None and is_foreign(found):
        types = _stored_types(found.path, model)
    merge_and_unload(model)
    files = files_beside(found, origin)
    said = Model(
        name or Path(out).name, _architecture(model), sum(p.numel() for p in model.parameters()), _use(found),
        base=base, step=step_of(found.path), mask=mask_of(found), looks_both_ways=not found.config.is_causal,
    )  # fmt: skip
    if isinstance(model, WrappedModel):
        if types is not None:
            _hold(model, types)
        return _export_theirs(model, Path(out), tokenizer_folder(found.path), dtype, max_shard_bytes,
                              {**files, README: model_card(said, origin).encode()})  # fmt: skip
    return export_hf(
        model.config,
        model.state_dict(),
        Path(out),
        tokenizer_folder(found.path),
        special=special_ids(found),
        dtype=dtype,
        dtypes={} if types is None else types.of,
        max_shard_bytes=max_shard_bytes,
        more={**files, README: model_card(said, origin).encode()},
    )


def export_adapter(
    path: Path | str,
    out: Path | str,
    which: Which = "final",
    base: str | None = None,
    name: str | None = None,
    say: Say = lambda text: None,
) -> Exported:
    """Writes the adapter of a model as a folder that PEFT loads, and `load` too.

    Args:
        base: what the adapter is to be loaded beside, as a folder or an id of the hub; it is compared with the base
            that the adapter was trained beside. Left out: that base, which must be in Hugging Face's format.
        name: what the card calls it; left out: the folder.
        say: as of `export_model`.
    """
    out = Path(out)
    _is_new(out)
    found = _loaded(path, which, say)
    model, origin, said = found.model, origin_of(found), base_facts(found)
    if said is None:
        raise RecipeError(f"the model in {found.path} is no adapter", "write all of it: --to hf")
    beside = _checked_base(said, base)
    named = str(Path(beside.name).absolute()) if Path(beside.name).exists() else beside.name
    if found.tokenizer.vocab_size > beside.config.vocabulary:
        _save_new_rows(model)
    kind = f"LoRA adapter for {_architecture(model)}"
    told = Model(
        name or out.name, kind, _trained(model), "adapter", base=named, step=step_of(found.path),
        looks_both_ways=not found.config.is_causal, rounded=four_bits(model),
    )  # fmt: skip
    more = {**files_beside(found, origin), README: model_card(told, origin).encode()}
    with new_folder(out, {"format": "peft", "base": named}) as folder:
        _save_into(folder, model, PeftBase(named, said["fingerprint"]))
        copy_files(folder, tokenizer_folder(found.path), more)
        write_json(folder / BASE_FILE, {**said, "from": named})
    return Exported(out, kind, told.parameters, tuple(sorted(file.name for file in out.iterdir())))


def _loaded(path: Path | str, which: Which, say: Say, wrapped: bool | None = None) -> LanguageModel:
    found = load(path, which, device="cpu", wrapped=wrapped)
    if said := not_the_end(path, which, found.path):
        say(said)
    return found


class _Types(NamedTuple):
    """In which types the weights of a folder are stored: each by its name there, and most numbers of all."""

    of: Mapping[str, torch.dtype]
    most: torch.dtype


def _stored_types(folder: Path, model: AnyModel) -> _Types:
    """They are loaded as fp32, and so those of another type than of half precision stay. What the model does not take,
    such as masks and frequencies of rotary positions, counts for nothing.
    """
    found: dict[str, torch.dtype] = {}
    numbers: dict[torch.dtype, int] = defaultdict(int)
    held = open_folder(folder)
    if isinstance(model, WrappedModel):  # which names it knows, and what it makes of them, is for its class to say
        values = model.config.values
        taken = {name: one for name, one in held.items() if one.dtype in FLOATS and not reason_to_ignore(name, values)}
    else:
        family = family_of(model.config)
        wanted = slots(model.config, family)
        taken = {today: one for name, one in held.items() if (today := family.today(name)) in wanted}
    for name, tensor in taken.items():
        found[name] = FLOATS[tensor.dtype] if tensor.dtype in ("BF16", "F16") else torch.float32
        numbers[found[name]] += tensor.elements
    return _Types(found, max(numbers, key=lambda dtype: numbers[dtype]))


def _hold(model: WrappedModel, types: _Types) -> None:
    """Each weight in the type in which it was stored: the widest, where several names have it. One that their class has
    made of others, or calls otherwise, in that of the most, unless that would change it.
    """
    beside = {name.partition(".")[2]: dtype for name, dtype in types.of.items()}
    stored: dict[int, list[torch.dtype]] = defaultdict(list)
    held = model.hf.state_dict(keep_vars=True)
    tensors = {name: tensor for name, tensor in held.items() if tensor.is_floating_point()}
    for name, tensor in tensors.items():
        short = name.partition(".")[2]  # with or without the first part of the name, as transformers takes them
        if dtype := types.of.get(name) or types.of.get(short) or beside.get(name):
            stored[id(tensor)].append(dtype)
    for tensor in {id(tensor): tensor for tensor in tensors.values()}.values():
        if known := stored[id(tensor)]:
            tensor.data = tensor.data.to(functools.reduce(torch.promote_types, known))
        elif torch.equal((rounded := tensor.data.to(types.most)).to(tensor.dtype), tensor.data):
            tensor.data = rounded


def _save_into(folder: Path, model: AnyModel, base: PeftBase) -> None:
    """Saves the chosen adapter into a folder that is there: `save_adapter` makes one of its own."""
    save_adapter(model, folder / "new", base=base)
    for file in sorted((folder / "new").iterdir()):
        if file.name != MANIFEST:  # the whole folder's is written at the end
            disk.rename(file, folder / file.name)
    disk.remove(folder / "new")


def push_folder(folder: Path | str, name: str) -> Pushed:
    """Uploads a folder that `tilth export` wrote, verified first."""
    folder = Path(folder)
    facts = verify_manifest(folder) if (folder / MANIFEST).exists() else {}
    if facts.get("format") not in ("huggingface", "peft"):
        raise RecipeError(f"{folder} was not written by `tilth export`", "export it: add --out FOLDER")
    base = facts.get("base")
    if facts["format"] == "peft" and (base is None or Path(base).exists()):
        raise RecipeError(
            f"the adapter in {folder} names the folder {base} as its base, which nobody else has",
            "export it with --base ORG/NAME: its base, as the hub has it",
        )
    return push(folder, name, "Upload by tilth")


def _is_new(out: Path) -> None:
    if out.exists():
        raise RecipeError(f"{out} exists", "name a folder that does not exist yet")


def _architecture(model: AnyModel) -> str:
    """The class of Hugging Face; RecipeError when none computes the model."""
    return model.config.architecture if isinstance(model, WrappedModel) else family_of(model.config).architecture


def _export_theirs(
    model: WrappedModel, out: Path, beside: Path, dtype: DtypeName | None, shard_bytes: int, more: Mapping[str, bytes]
) -> Exported:
    """The folder as the class itself writes it."""
    if dtype is not None:
        model.hf.to(getattr(torch, dtype))
    with new_folder(out, {"format": "huggingface"}) as folder:
        model.save(folder, shard_bytes)
        copy_files(folder, beside, more)
    files = tuple(sorted(path.name for path in out.iterdir()))
    return Exported(out, model.config.architecture, sum(p.numel() for p in model.parameters()), files)


def _checked_base(said: Mapping[str, Any], base: str | None) -> Base:
    """What an adapter shall be loaded beside: in Hugging Face's format, and with the weights that it was trained
    beside.
    """
    added, name = tuple(said["special_tokens"]), base or said["from"]
    beside = open_base(name, said["context_length"], added, said.get("wrapped"))
    if not beside.place.foreign:
        raise RecipeError(
            f"the base {beside.name} is in tilth's own format, which PEFT does not read",
            f"export it (tilth export {beside.name} --to hf --out BASE), and add --base BASE",
        )
    if base is not None:
        try:
            check_base(
                said["fingerprint"],
                base_fingerprint(base_model(beside, torch.device("cpu"), said["seed"], later=True)),
                Path(base),
            )
        except CheckpointError as error:
            raise CheckpointError(
                f"--base {base} holds other weights than the adapter was trained beside ({said['from']})",
                "name that base, or what `tilth export` wrote of it in fp32",
            ) from error
    return beside


def _save_new_rows(model: AnyModel) -> None:
    """Notes embeddings and output matrix as trained whole: those of the base end before the tokens that the recipe
    added, and the rows of these are nowhere else.
    """
    book = book_of(model)
    assert book is not None and book.chosen is not None
    name, saved = book.chosen, dict(book.saved.get(book.chosen, {}))
    wanted = ["embed_tokens.weight", *(["lm_head.weight"] if not model.config.tie_word_embeddings else [])]
    if isinstance(model, WrappedModel):
        both = (model.input_weight, model.output_weight)
        wanted = [key for key, own in model.named_parameters() if any(own is weight for weight in both)]
    choose(model, None)
    add_saved(model, name, {**{key: model.get_parameter(key) for key in wanted}, **saved})
    choose(model, name)


def _trained(model: AnyModel) -> int:
    """How many numbers the chosen adapter has."""
    book = book_of(model)
    assert book is not None and book.chosen is not None
    parts = (value for key, value in model.named_parameters() if ".adapters." in key)
    return sum(value.numel() for value in (*parts, *book.saved.get(book.chosen, {}).values()))


def _use(found: LanguageModel) -> Use:
    if not found.config.is_causal:
        return "masked"
    return "chat" if found.chat is not None else "text"
