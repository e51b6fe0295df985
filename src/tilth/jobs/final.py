"""The model that a run ends with: `RUN/final/`, whole in itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tilth.checkpoint.store import CheckpointStore
from tilth.checkpoint.tensors import write_tensors
from tilth.core.errors import CheckpointError
from tilth.core.files import commit_folder, disk, storage_errors, write_json
from tilth.core.rundir import RunFolder
from tilth.jobs.recipe import Recipe
from tilth.jobs.runs import reading_habits
from tilth.model.config import ModelConfig
from tilth.model.transformer import Transformer
from tilth.tokenizer import Tokenizer

MODEL_TYPE = "tilth"


def write_final(
    folder: RunFolder,
    recipe: Recipe,
    config: ModelConfig,
    tokenizer: Tokenizer,
    model: Transformer,
    store: CheckpointStore,
) -> Path:
    """Writes weights, configuration and tokenizer, in place of what an earlier end of this run left there."""
    tensors = model.state_dict()
    if recipe.train.final == "best":
        best = store.best()
        if best is None:
            raise CheckpointError(f"{folder.path} has no best checkpoint", "set train.final: last, or evaluate.every")
        tensors = best.tensors("model")
    temporary = folder.path / f".final.{os.getpid()}.tmp"
    with storage_errors(temporary):
        disk.remove(temporary)
        disk.make_folder(temporary)
        write_tensors(temporary / "model.safetensors", tensors)
        write_json(temporary / "config.json", plain_config(config))
        tokenizer.save(temporary)
        if folder.final.exists():  # it goes only when the new one is whole
            old = folder.path / ".final.old.tmp"
            disk.remove(old)
            disk.rename(folder.final, old)
        commit_folder(temporary, folder.final, {"weights": recipe.train.final, "habits": reading_habits(recipe.data)})
        disk.remove(folder.path / ".final.old.tmp")
    return folder.final


def write_identity(folder: RunFolder, config: ModelConfig, tokenizer: Tokenizer) -> None:
    """Writes configuration and tokenizer into the run folder itself, so that its checkpoints can be used before it
    ends.
    """
    write_json(folder.path / "config.json", plain_config(config))
    tokenizer.save(folder.path / "tokenizer")


def plain_config(config: ModelConfig) -> dict[str, Any]:
    """`config.json`: every value resolved, nothing left to a preset."""
    resolved = config.model_dump(mode="json", exclude={"preset"})
    resolved |= {"num_key_value_heads": config.key_value_heads, "intermediate_size": config.mlp_size}
    return {"model_type": MODEL_TYPE, **resolved}
