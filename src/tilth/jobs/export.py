"""The job behind `tilth export`: any model that can be loaded, as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilth.core.errors import RecipeError
from tilth.export.hf import SHARD_BYTES, DtypeName, Exported, export_hf
from tilth.jobs.load import LanguageModel, load
from tilth.jobs.places import MODEL_TYPE, Which
from tilth.model.families import read_json_config
from tilth.model.wrapped import WrappedModel

_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def export_model(
    path: Path | str,
    out: Path | str,
    which: Which = "final",
    dtype: DtypeName | None = None,
    max_shard_bytes: int = SHARD_BYTES,
) -> Exported:
    """Writes what `load(path)` gives as a folder that transformers loads.

    RecipeError when `out` exists, or no class of Hugging Face computes the model; it names the option in the way.
    """
    found = load(path, which, device="cpu")
    if isinstance(found.model, WrappedModel):
        raise RecipeError(
            f"{found.path} is used through transformers' own class, and is a Hugging Face folder already",
            "copy it as it is",
        )
    return export_hf(
        found.model.config,
        found.model.state_dict(),
        Path(out),
        tokenizer_folder(found.path),
        special=special_ids(found),
        dtype=dtype,
        max_shard_bytes=max_shard_bytes,
    )


def tokenizer_folder(weights: Path) -> Path:
    """Where the tokenizer of weights lies: beside them, or, for a checkpoint of a run, in the run folder."""
    beside = weights.parent.parent / "tokenizer"
    return weights if (weights / "tokenizer_config.json").exists() or not beside.is_dir() else beside


def special_ids(found: LanguageModel) -> dict[str, Any]:
    """The ids that generation begins and ends with: as the checkpoint states them, or the tokenizer's end-of-text."""
    if (found.path / "config.json").exists() and (values := read_json_config(found.path)).get(
        "model_type"
    ) != MODEL_TYPE:
        return {key: values.get(key) for key in _SPECIAL}
    return {"eos_token_id": found.tokenizer.end_of_text}
