"""The model that a run ends with: `RUN/final/`, whole in itself.

Its manifest says which weights it holds (`weights`: last or best, `step`), for which end of the run (`end`) and wish of
the recipe (`asked`) it was written: what is still so need not be written again. `habits` say how further text for it
has to be read and cleaned.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tilth.checkpoint.peft import save_adapter
from tilth.checkpoint.peft_config import Base as PeftBase
from tilth.checkpoint.store import Checkpoint, CheckpointStore
from tilth.checkpoint.tensors import load_model, write_tensors
from tilth.checkpoint.trainable import load_trainable
from tilth.core.errors import CheckpointError, TilthError
from tilth.core.files import MANIFEST, commit_folder, disk, storage_errors, verify_manifest, write_json
from tilth.core.rundir import RunFolder
from tilth.jobs.places import MODEL_TYPE
from tilth.jobs.recipe import Recipe
from tilth.jobs.runs import reading_habits
from tilth.model.wrapped import AnyConfig, WrappedModel
from tilth.model.wrapped_config import WrappedConfig
from tilth.tokenizer import Tokenizer
from tilth.tokenizer.chat_files import ChatFormat, copy_chat, write_chat
from tilth.training.stopping import Progress


@dataclass(frozen=True)
class FinalWeights:
    """What a run ends with: the weights of `step`, and why they are not those that the recipe asks for."""

    kind: str
    step: int
    tensors: Mapping[str, Tensor]
    warning: str = ""


def choose_weights(asked: str, progress: Progress, last: Mapping[str, Tensor], store: CheckpointStore) -> FinalWeights:
    """The best weights where the recipe asks for them and they are there whole; else the last ones.

    A run is not lost because its best checkpoint is: the warning says what became of it.
    """
    if asked != "best":
        return FinalWeights("last", progress.step, last)
    try:
        best = _best(progress, store)
        return FinalWeights("best", best.step, best.tensors("model"))
    except TilthError as error:
        warning = f"train.final is best, but {error.message}: the last weights, of step {progress.step}, become final/"
        return FinalWeights("last", progress.step, last, warning)


def _best(progress: Progress, store: CheckpointStore) -> Checkpoint:
    if progress.best_value is None:
        raise CheckpointError("there was no evaluation", "set evaluate.every")
    best = store.best()
    if best is None or best.step != progress.best_step:
        raise CheckpointError(
            f"the checkpoint of the best step, {progress.best_step}, was not kept", "set train.checkpoint.best: true"
        )
    return best


def standing_final(folder: RunFolder, asked: str, end: int) -> dict[str, Any] | None:
    """The facts of the final model that an earlier end of this run at step `end` left, verified; None when it is
    damaged, gone or of another end.
    """
    try:
        facts = verify_manifest(folder.final)
    except TilthError:
        return None
    return facts if (facts.get("asked"), facts.get("end")) == (asked, end) else None


@dataclass(frozen=True)
class Adapted:
    """What an adapter's final model is written with: the model, its base's fingerprint, and how the base is named."""

    model: nn.Module
    fingerprint: str
    write_base: Callable[[Path], None]


def write_final(
    folder: RunFolder,
    recipe: Recipe,
    end: int,
    weights: FinalWeights,
    config: AnyConfig,
    tokenizer: Tokenizer,
    adapted: Adapted | None = None,
    wrapped: WrappedModel | None = None,
) -> dict[str, Any]:
    """Writes weights, configuration and tokenizer, in place of what an earlier end of this run left there; returns the
    facts of its manifest. Of an adapter its own weights are written, in PEFT's format, and which base they belong to;
    of a class of transformers' what that class writes.
    """
    facts = {"weights": weights.kind, "step": weights.step, "asked": recipe.train.final, "end": end}
    facts["habits"] = reading_habits(recipe)
    temporary = folder.path / f".final.{os.getpid()}.tmp"
    with storage_errors(temporary):
        disk.remove(temporary)
        if adapted is None:
            disk.make_folder(temporary, sync=False)
            if wrapped is None:
                write_tensors(temporary / "model.safetensors", weights.tensors)
            else:
                load_model(wrapped, dict(weights.tensors), folder.path)
                wrapped.save(temporary)
        else:
            load_trainable(adapted.model, weights.tensors, folder.path)  # the best ones may be asked for
            save_adapter(adapted.model, temporary, base=PeftBase(recipe.model.from_, adapted.fingerprint))
            disk.remove(temporary / MANIFEST)  # the whole folder's comes below
            adapted.write_base(temporary)
        write_json(temporary / "config.json", plain_config(config))
        tokenizer.save(temporary)
        copy_chat(folder.path / "tokenizer", temporary)
        if folder.final.exists():  # it goes only when the new one is whole
            old = folder.path / ".final.old.tmp"
            disk.remove(old)
            disk.rename(folder.final, old)
        commit_folder(temporary, folder.final, facts)
        disk.remove(folder.path / ".final.old.tmp")
    return facts


def write_identity(
    folder: RunFolder,
    config: AnyConfig,
    tokenizer: Tokenizer,
    chat: ChatFormat | None = None,
    stop_ids: Collection[int] = (),
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Writes configuration, tokenizer, chat template and how it is sampled into the run folder itself, so that its
    checkpoints can be used before it ends.
    """
    write_json(folder.path / "config.json", plain_config(config))
    tokenizer.save(folder.path / "tokenizer")
    write_chat(folder.path / "tokenizer", chat, stop_ids, settings)


def plain_config(config: AnyConfig) -> dict[str, Any]:
    """`config.json`: every value resolved, nothing left to a preset; what is none is left out."""
    if isinstance(config, WrappedConfig):
        return config.written()
    resolved = config.model_dump(mode="json", exclude={"preset"}, exclude_none=True)
    resolved |= {"num_key_value_heads": config.key_value_heads, "intermediate_size": config.mlp_size}
    return {"model_type": MODEL_TYPE, **resolved}
