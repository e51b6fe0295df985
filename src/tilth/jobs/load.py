"""A model from wherever it is: `load(PATH_OR_ID)` gives weights, tokenizer and configuration as one thing to use.

A run, a checkpoint in it, its final/ folder, a Hugging Face folder (what `tilth export` writes too), or a model of the
hub. Of the last two, families that tilth has itself become its own model (`checkpoint/hf_weights.py`); with `wrapped`
any architecture of transformers keeps its own class (`model/wrapped.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from tilth.checkpoint.hf_weights import load_checkpoint
from tilth.checkpoint.peft_config import CONFIG as ADAPTER_CONFIG
from tilth.checkpoint.peft_load import load_adapter
from tilth.checkpoint.store import CheckpointStore
from tilth.checkpoint.tensors import load_model, read_tensors
from tilth.checkpoint.trainable import base_fingerprint, check_base, load_trainable
from tilth.core.config import parse
from tilth.core.environment import DeviceName
from tilth.core.errors import CheckpointError, DataError, RecipeError
from tilth.distributed.runtime import pick_device
from tilth.generate.config import SamplingConfig
from tilth.generate.text import TextOptions, generate_texts
from tilth.jobs.base import open_base
from tilth.jobs.places import Place, Which, locate, read_config
from tilth.jobs.start import base_model, check_fits, wrapped_model
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter
from tilth.model.transformer import build
from tilth.model.wrapped import AnyConfig, AnyModel
from tilth.model.wrapped_config import read_wrapped_config
from tilth.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class LanguageModel:
    """A model that can be asked. `path` is the folder that its weights came from."""

    model: AnyModel
    tokenizer: Tokenizer
    config: AnyConfig
    path: Path

    @torch.no_grad()
    def logits(self, ids: list[int]) -> npt.NDArray[np.float32]:
        """Scores of the next token after each of `ids`, float32 [T, V]; DataError when there are more than the
        context holds.
        """
        if not 0 < len(ids) <= self.config.context_length:
            raise DataError(f"{len(ids)} ids; the model takes 1 to {self.config.context_length}", "give a part of them")
        self.tokenizer.decode_bytes(ids)  # DataError when one of them is no id
        device = self.model.output_weight.device
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
        """What the model writes after `prompt` (the prompt not in it). The same arguments give the same text.

        RecipeError for a masked language model, which writes none.
        """
        if not self.config.is_causal:
            raise RecipeError(f"the model in {self.path} fills in masked tokens, and writes no text", "ask for logits")
        values = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        options = TextOptions(max_new_tokens, 1, tuple(stop), parse(SamplingConfig, values, "generate"))
        return generate_texts(self.model, self.tokenizer, prompt, options)[0]


def load(
    path: Path | str, which: Which = "final", device: DeviceName = "auto", wrapped: bool | None = None
) -> LanguageModel:
    """The model of a run folder, of a folder with weights, config.json and a tokenizer, or of the hub, verified.

    Args:
        path: a folder, or ORG/NAME or ORG/NAME@REVISION of the hub, where no folder of that name is.
        which: of a run folder: `final` (or the latest checkpoint, while the run has not ended), `latest`, `best`, or
            a step.
        wrapped: of a Hugging Face folder: use transformers' own class; left out: only where tilth has none itself.
    """
    place = locate(path, which, _checkpoint)
    place.verify()
    chosen = pick_device(device)
    if place.adapter is not None:
        return _beside_base(place, chosen)
    if place.foreign:
        return _load_foreign(place, chosen, wrapped)
    config, tokenizer = read_config(place.about / "config.json"), load_tokenizer(place.tokenizer)
    check_fits(config, place.weights / "model.safetensors")
    model = build(config, None, chosen)
    load_model(model, read_tensors(place.weights / "model.safetensors"), place.weights)
    return LanguageModel(model.eval(), tokenizer, config, place.weights)


def _load_foreign(place: Place, device: torch.device, wrapped: bool | None) -> LanguageModel:
    tokenizer = load_tokenizer(place.tokenizer)
    model: AnyModel
    if place.wrapped if wrapped is None else wrapped:
        model = wrapped_model(place, read_wrapped_config(place.about), device)
    else:
        model = load_checkpoint(place.weights, device).model
    return LanguageModel(model.eval(), tokenizer, model.config, place.weights)


def _beside_base(place: Place, device: torch.device) -> LanguageModel:
    """The base that an adapter was trained beside, with the adapter put beside it."""
    said = place.base
    base = open_base(said["from"], said["context_length"], tuple(said["special_tokens"]))
    model = base_model(base, device, said["seed"])
    check_base(said["fingerprint"], base_fingerprint(model), place.weights)
    if (place.weights / ADAPTER_CONFIG).exists():
        load_adapter(model, place.weights)
    else:  # a checkpoint of the run
        apply_adapter(model, parse(AdapterConfig, said["adapter"], "adapter"), said["seed"])
        load_trainable(model, read_tensors(place.weights / "model.safetensors"), place.weights)
    return LanguageModel(model.eval(), load_tokenizer(place.tokenizer), model.config, place.weights)


def _checkpoint(folder: Path, which: Which) -> Path:
    """The folder of one of a run's checkpoints."""
    store = CheckpointStore(folder)
    if isinstance(which, int):
        return store.at(which).path
    checkpoint = store.best() if which == "best" else store.latest(set_aside=False)[0]
    if checkpoint is None:
        raise CheckpointError(f"no {which} checkpoint in {store.folder}", "train first: `tilth train RECIPE`")
    return checkpoint.path
