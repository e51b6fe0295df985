"""A trained model from its folder: `load(RUN)` gives weights, tokenizer and configuration as one thing to use."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from tilth.checkpoint.store import Checkpoint, CheckpointStore
from tilth.checkpoint.tensors import count_elements, load_model, read_tensors
from tilth.core.config import parse
from tilth.core.environment import DeviceName
from tilth.core.errors import CheckpointError, DataError, IntegrityError, RecipeError
from tilth.core.files import read_json, verify_manifest
from tilth.distributed.runtime import pick_device
from tilth.generate.config import SamplingConfig
from tilth.generate.text import TextOptions, generate_texts
from tilth.jobs.final import MODEL_TYPE
from tilth.model.config import ModelConfig, parameter_count
from tilth.model.transformer import Transformer, build
from tilth.tokenizer import Tokenizer, load_tokenizer

Which = Literal["final", "latest", "best"] | int


@dataclass(frozen=True)
class LanguageModel:
    """A model that can be asked. `path` is the folder that its weights came from."""

    model: Transformer
    tokenizer: Tokenizer
    config: ModelConfig
    path: Path

    @torch.no_grad()
    def logits(self, ids: list[int]) -> npt.NDArray[np.float32]:
        """Scores of the next token after each of `ids`, float32 [T, V]; DataError when there are more than the
        context holds.
        """
        if not 0 < len(ids) <= self.config.context_length:
            raise DataError(f"{len(ids)} ids; the model takes 1 to {self.config.context_length}", "give a part of them")
        self.tokenizer.decode_bytes(ids)  # DataError when one of them is no id
        device = self.model.embed_tokens.weight.device
        hidden = self.model(torch.tensor([ids], device=device))
        result: npt.NDArray[np.float32] = self.model.logits(hidden)[0].float().cpu().numpy()
        return result

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 1,
        stop: tuple[str, ...] = (),
    ) -> str:
        """What the model writes after `prompt` (the prompt not in it). The same arguments give the same text."""
        values = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        options = TextOptions(max_new_tokens, 1, tuple(stop), parse(SamplingConfig, values, "generate"))
        return generate_texts(self.model, self.tokenizer, prompt, options)[0]


def load(path: Path | str, which: Which = "final", device: DeviceName = "auto") -> LanguageModel:
    """The model of a run folder, or of a folder with model.safetensors, config.json and a tokenizer, verified.

    Args:
        which: of a run folder: `final` (or the latest checkpoint, while the run has not ended), `latest`, `best`, or
            a step.
    """
    path = Path(path)
    weights, about = _find(path, which)
    try:
        if weights != path or (weights / "manifest.json").exists():  # a folder from elsewhere may have none
            verify_manifest(weights)
    except IntegrityError as error:
        raise CheckpointError(error.message, "it was altered: use another checkpoint (--checkpoint latest)") from error
    config = read_config(about / "config.json")
    tokenizer = load_tokenizer(about / "tokenizer" if (about / "tokenizer").is_dir() else about)
    _fits(config, weights / "model.safetensors")
    model = build(config, None, pick_device(device))
    load_model(model, read_tensors(weights / "model.safetensors"), weights)
    return LanguageModel(model.eval(), tokenizer, config, weights)


def _fits(config: ModelConfig, weights: Path) -> None:
    """Before anything is allocated: a configuration may come from anywhere and claim a model of any size."""
    claimed, held = parameter_count(config), count_elements(weights)
    if claimed != held:
        raise CheckpointError(
            f"the configuration beside {weights} is of {claimed:,} parameters, and the file holds {held:,}",
            "the two do not belong together: bring the config.json that was written with these weights",
        )


def read_config(path: Path) -> ModelConfig:
    """The model's configuration from a `config.json` that tilth wrote."""
    try:
        data = read_json(path)
    except IntegrityError as error:
        raise CheckpointError(error.message, "name a run folder or its final/ folder") from error
    if not isinstance(data, dict) or data.get("model_type") != MODEL_TYPE:
        kind = data.get("model_type") if isinstance(data, dict) else type(data).__name__
        raise CheckpointError(
            f"{path} is of model type {kind!r}, not {MODEL_TYPE!r}", "name a model that tilth trained"
        )
    return parse(ModelConfig, {k: v for k, v in data.items() if k != "model_type"}, str(path))


def _find(path: Path, which: Which) -> tuple[Path, Path]:
    """The folder with the weights, and the one with configuration and tokenizer."""
    if not path.is_dir():
        raise RecipeError(f"no run folder or model at {path}", _nearest_folder(path))
    if (path / "recipe.json").exists():
        if which == "final" and (path / "final").is_dir():
            return path / "final", path / "final"
        if which == "final" and (path / "result.json").exists():
            raise CheckpointError(f"{path / 'final'} is missing", "type the command that trained it: it is made again")
        return _checkpoint(CheckpointStore(path / "checkpoints"), which).path, path
    if which != "final":
        raise RecipeError(
            f"{path} is no run folder: it holds no {which if isinstance(which, str) else f'step {which}'} to choose",
            "name the run folder, or leave the choice of a checkpoint out",
        )
    if re.fullmatch(r"step-\d{8,}", path.name) and (path.parent.parent / "config.json").exists():
        return path, path.parent.parent
    if (path / "model.safetensors").exists():
        return path, path
    raise RecipeError(f"{path} holds no model", "name a run folder made by `tilth train`, or its final/ folder")


def _checkpoint(store: CheckpointStore, which: Which) -> Checkpoint:
    if isinstance(which, int):
        return store.at(which)
    checkpoint = store.best() if which == "best" else store.latest(set_aside=False)[0]
    if checkpoint is None:
        raise CheckpointError(f"no {which} checkpoint in {store.folder}", "train first: `tilth train RECIPE`")
    return checkpoint


def _nearest_folder(path: Path) -> str:
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return f"a recipe stands there; name the folder of its run, runs/NAME, or train it first: tilth train {path}"
    there = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, there, n=1)
    return f"did you mean {path.parent / close[0]}?" if close else "train first: `tilth train RECIPE`"
