"""What goes out beside exported weights, so that other programs use a model as it was trained.

    origin_of(found) -> Origin            the run that made a model, as far as it is still there
    files_beside(found, origin)           chat template, generation_config.json, the tokenizer's settings
    special_ids(found), mask_of(found)    ids and names that other programs ask for
    tokenizer_folder(weights)             where the tokenizer of weights lies

The chat template is the one that lies beside the model (tokenizer/chat_files.py), which a run that was trained by one
put there. What ends a text or an answer in tilth ends generation elsewhere; the base's other settings are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth.core.errors import TilthError
from tilth.core.files import json_bytes, read_json, read_manifest
from tilth.core.rundir import RunFolder
from tilth.data.batches.masking import MASK_NAMES
from tilth.jobs.load import LanguageModel
from tilth.jobs.places import BASE_FILE, MODEL_TYPE, read_base
from tilth.jobs.recipe import Recipe
from tilth.jobs.runs import run_of, stored_recipe
from tilth.model.adapters import book_of
from tilth.model.families import read_json_config
from tilth.tokenizer.chat_files import GENERATION_FILE, chat_files, read_settings
from tilth.tokenizer.hf_format import CONFIG_FILE

_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Origin:
    """The run that made a model, and its recipe."""

    run: RunFolder
    recipe: Recipe


def origin_of(found: LanguageModel) -> Origin | None:
    """The run whose weights these are; None for a model from elsewhere, or a copy without its run."""
    place = run_of(found.path)
    return None if place is None else Origin(RunFolder(place), stored_recipe(RunFolder(place)))


def base_facts(found: LanguageModel) -> dict[str, Any] | None:
    """What is said beside an adapter's weights of its base (start.py: write_base); None for what is no adapter."""
    places = [folder / BASE_FILE for folder in (found.path, found.path.parent.parent) if (folder / BASE_FILE).exists()]
    return read_base(places[0].parent) if places and book_of(found.model) is not None else None


def tokenizer_folder(weights: Path) -> Path:
    """Where the tokenizer of weights lies: beside them, or, for a checkpoint of a run, in the run folder."""
    beside = weights.parent.parent / "tokenizer"
    return weights if (weights / "tokenizer_config.json").exists() or not beside.is_dir() else beside


def files_beside(found: LanguageModel, origin: Origin | None) -> dict[str, bytes]:
    """Files by their names. None for a folder of Hugging Face that no run made: what lies there is right already."""
    if is_foreign(found) and origin is None:
        return {}
    files = {GENERATION_FILE: json_bytes(generation(found))}
    if found.chat is not None:
        files |= chat_files(found.chat)
    if found.tokenizer.kind != "foreign":
        files[CONFIG_FILE] = json_bytes(_tokenizer_config(found))
    return files


def special_ids(found: LanguageModel) -> dict[str, Any]:
    """The ids that text begins and ends with: as the checkpoint states them, or as the tokenizer does."""
    if is_foreign(found):
        values = read_json_config(found.path)
        return {key: values.get(key) for key in _SPECIAL}
    ids = {key: found.tokenizer.token_id(key.removesuffix("_id")) for key in _SPECIAL}
    return {key: value for key, value in ids.items() if value is not None} | {
        "eos_token_id": found.tokenizer.end_of_text
    }


def generation(found: LanguageModel) -> dict[str, Any]:
    """generation_config.json: every id that ends what the model writes in tilth ends it elsewhere, with a template what
    ends an answer by it too. The rest is as the model's base had it.
    """
    ids = {key: value for key, value in special_ids(found).items() if value is not None}
    named = ids.get("eos_token_id", [])  # by config.json, where generation_config.json says nothing
    stops = {found.tokenizer.end_of_text, *(found.stop_ids or (named if isinstance(named, list) else [named]))}
    if found.chat is not None:
        with found.chat.encoder(found.tokenizer) as encoder:
            stops |= encoder.stop_ids()
    ends = sorted(stops) if len(stops) > 1 else stops.pop()
    return read_settings(tokenizer_folder(found.path)) | ids | {"eos_token_id": ends}


def _tokenizer_config(found: LanguageModel) -> dict[str, Any]:
    """tokenizer_config.json of our own tokenizer, for transformers.

    There the text that a template made becomes ids in a second step, and a prompt names the mask token by its text:
    neither works unless special tokens are recognised in texts, which tilth itself never does.
    """
    values: dict[str, Any] = read_json(tokenizer_folder(found.path) / CONFIG_FILE)
    if mask := mask_of(found):
        values["mask_token"] = mask
    if found.chat is not None or mask:
        values["split_special_tokens"] = False
    return values | {"model_max_length": found.config.context_length}


def mask_of(found: LanguageModel) -> str:
    """The text of the token that stands for a hidden one; empty where there is none."""
    return next((name for name in MASK_NAMES if name in found.tokenizer.special_tokens), "")


def step_of(weights: Path) -> int | None:
    """Which step of their run weights are of; None where nothing tells."""
    if weights.name.startswith("step-") and weights.name[5:].isdigit():
        return int(weights.name[5:])
    try:
        step = read_manifest(weights).get("step")
    except TilthError:
        return None
    return step if isinstance(step, int) else None


def is_foreign(found: LanguageModel) -> bool:
    """Whether its folder is in Hugging Face's format."""
    place = found.path / "config.json"
    return place.exists() and read_json_config(found.path).get("model_type") != MODEL_TYPE
