"""The model that training begins with: fresh or a checkpoint's, an adapter beside it, parts of it frozen.

starting_model(recipe, base, …)     the model, and what every checkpoint of the run says of its base
base_model(base, device, seed)      a checkpoint with its weights
wrapped_model(place, config, …)     one of an architecture that tilth does not have
same_base(checkpoint, said)         refuses to go on beside another base
write_base(folder, recipe, …)       says beside an adapter which base it belongs to
check_fits(config, weights)         whether weights are of a configuration's size
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from tilth.checkpoint.hf_weights import load_checkpoint
from tilth.checkpoint.safetensors_files import open_folder
from tilth.checkpoint.store import Checkpoint
from tilth.checkpoint.tensors import count_elements, load_model, read_tensors
from tilth.checkpoint.trainable import base_fingerprint, check_base
from tilth.core.environment import Precision
from tilth.core.errors import CheckpointError
from tilth.core.files import write_json
from tilth.jobs.base import Base
from tilth.jobs.objectives import packing_of
from tilth.jobs.places import BASE_FILE, Place
from tilth.jobs.recipe import Recipe
from tilth.model.adapters import apply_adapter
from tilth.model.config import ModelConfig, parameter_count
from tilth.model.freezing import freeze
from tilth.model.precision import DTYPES
from tilth.model.resize import resize_embeddings
from tilth.model.transformer import build
from tilth.model.wrapped import AnyConfig, AnyModel, WrappedModel, build_wrapped, load_wrapped
from tilth.model.wrapped_config import WrappedConfig


def base_model(base: Base, device: torch.device, seed: int) -> AnyModel:
    """The model with the checkpoint's weights, and rows for new tokens drawn from `seed`."""
    model = _as_it_is(base, device)
    if base.tokenizer.vocab_size > model.config.vocabulary:
        resize_embeddings(model, base.tokenizer.vocab_size, seed)
    return model


def _as_it_is(base: Base, device: torch.device) -> AnyModel:
    config, weights = base.config, base.place.weights
    if isinstance(config, WrappedConfig):
        return wrapped_model(base.place, config, device)
    if base.place.foreign:
        return load_checkpoint(weights, device, change=lambda _: config).model
    check_fits(config, weights / "model.safetensors")
    model = build(config, None, device)
    load_model(model, read_tensors(weights / "model.safetensors"), weights)
    return model


def wrapped_model(place: Place, config: WrappedConfig, device: torch.device) -> WrappedModel:
    """A model of transformers' own class: of a folder as transformers writes it, or of a run's checkpoint.

    CheckpointError, before anything is allocated, when the files do not hold what config.json claims.
    """
    of_a_run = place.weights != place.about
    file = place.weights / "model.safetensors"
    held = count_elements(file) if of_a_run else sum(tensor.elements for tensor in open_folder(place.weights).values())
    if config.parameters > held:
        raise CheckpointError(
            f"{place.about / 'config.json'} is of {config.parameters:,} parameters, and the files in {place.weights} "
            f"hold {held:,}",
            "a shard is missing, or the two do not belong together: get them again",
        )
    if not of_a_run:
        return load_wrapped(place.weights, device, config.context_length, change=lambda _: config)
    model = build_wrapped(config, device)
    load_model(model, read_tensors(file), place.weights)
    return model


def check_fits(config: ModelConfig, weights: Path) -> None:
    """Before anything is allocated: a configuration may come from anywhere and claim a model of any size."""
    claimed, held = parameter_count(config), count_elements(weights)
    if claimed != held:
        raise CheckpointError(
            f"the configuration beside {weights} is of {claimed:,} parameters, and the file holds {held:,}",
            "the two do not belong together: bring the config.json that was written with these weights",
        )


def write_base(folder: Path, recipe: Recipe, fingerprint: str) -> None:
    """Says beside an adapter's weights which base they belong to."""
    name = recipe.model.from_
    assert name is not None and recipe.adapter is not None
    said = {
        "from": str(Path(name).absolute()) if Path(name).exists() else name,
        "context_length": recipe.model.context_length,
        "special_tokens": recipe.tokenizer.special_tokens,
        "seed": recipe.train.seed,
        "fingerprint": fingerprint,
        "adapter": recipe.adapter.model_dump(mode="json"),
    }
    write_json(folder / BASE_FILE, said)


def starting_model(
    recipe: Recipe, base: Base | None, config: AnyConfig, device: torch.device, precision: Precision
) -> tuple[AnyModel, dict[str, str]]:
    """The model as training begins, what shall not train frozen, and what every checkpoint of the run says of it.

    Args:
        recipe: with the shape filled in.
        config: the model's, with the vocabulary known.
    """
    model: AnyModel
    if base is None:
        assert isinstance(config, ModelConfig), "only a checkpoint has a shape of another kind"
        model, said = build(config, recipe.train.seed, device), {}
    else:
        model = base_model(base, device, recipe.train.seed)
        said = {"base": base_fingerprint(model)}
    if isinstance(model, WrappedModel) and (packing_of(recipe) or not recipe.data.cross_document_attention):
        model.keeps_apart()
    if recipe.adapter is not None:
        # Frozen weights are read in the precision of the products: held in it, none is cast in a step.
        apply_adapter(model, recipe.adapter, recipe.train.seed, dtype=DTYPES.get(precision))
    if recipe.train.freeze:
        freeze(model, recipe.train.freeze)
    return model, said


def same_base(checkpoint: Checkpoint, said: Mapping[str, str]) -> None:
    """CheckpointError when a run would go on from another base than it began with."""
    before = checkpoint.state()["identity"].get("base")
    if before is not None and "base" in said:
        check_base(before, said["base"], checkpoint.path)
