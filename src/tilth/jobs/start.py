"""The model that training begins with: fresh or a checkpoint's, an adapter beside it, parts of it frozen.

loaded_base(recipe, base, device)   the checkpoint's model, and whether it is of use, before anything is written
starting_model(recipe, loaded, …)   the model, and what every checkpoint of the run says of its base
base_model(base, device, seed)      a checkpoint with its weights
wrapped_model(place, config, …)     one of an architecture that tilth does not have
reads_masks(recipe, config)         whether attention goes by masks
start_alike(runtime, model, …)      all processes with the model of process 0
same_base(checkpoint, said)         refuses to go on beside another base
write_base(folder, recipe, …)       says beside an adapter which base it belongs to
check_files(base)                   whether its files hold what they claim, before anything is loaded
check_fits(config, weights)         whether weights are of a configuration's size
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from tilth.checkpoint.hf_weights import check_folder, load_checkpoint, load_later
from tilth.checkpoint.safetensors_files import FLOATS, Stored, open_folder
from tilth.checkpoint.store import Checkpoint
from tilth.checkpoint.tensors import count_elements, load_model, read_weights
from tilth.checkpoint.trainable import base_fingerprint, check_base
from tilth.core.allocator import keep_freed_blocks, return_freed_blocks
from tilth.core.environment import Precision
from tilth.core.errors import CheckpointError, RecipeError
from tilth.core.files import write_json
from tilth.distributed.replicas import differing, take_from_main
from tilth.distributed.runtime import Runtime
from tilth.jobs.around import put_around
from tilth.jobs.base import Base
from tilth.jobs.forecasting.recomputed import draws_otherwise
from tilth.jobs.places import BASE_FILE, Place
from tilth.jobs.recipe import Recipe
from tilth.model.config import ModelConfig, parameter_count
from tilth.model.resize import resize_embeddings
from tilth.model.transformer import build
from tilth.model.wrapped import AnyConfig, AnyModel, WrappedModel, build_wrapped, load_wrapped
from tilth.model.wrapped_config import WrappedConfig, empty_tensors
from tilth.training.trainer import saved_weights


def base_model(base: Base, device: torch.device, seed: int, *, later: bool = False) -> AnyModel:
    """The model with the checkpoint's weights, and rows for new tokens drawn from `seed`.

    Args:
        later: whether an adapter comes beside it, so that the layers' matrices are read only then, each in what it is
            held in. Of transformers' own classes they are here at once all the same.
    """
    model = _as_it_is(base, device, later)
    if base.tokenizer.vocab_size > model.config.vocabulary:
        resize_embeddings(model, base.tokenizer.vocab_size, seed)
    return model


def _as_it_is(base: Base, device: torch.device, later: bool) -> AnyModel:
    config, weights = base.config, base.place.weights
    if isinstance(config, WrappedConfig):
        return wrapped_model(base.place, config, device)
    if not base.place.foreign:
        check_fits(config, weights / "model.safetensors")
    if later:
        return load_later(weights, config, device, foreign=base.place.foreign)
    if base.place.foreign:
        return load_checkpoint(weights, device, change=lambda _: config).model
    model = build(config, None, device)
    load_model(model, read_weights(weights / "model.safetensors"), weights)
    return model


def wrapped_model(place: Place, config: WrappedConfig, device: torch.device) -> WrappedModel:
    """A model of transformers' own class: of a folder as transformers writes it, or of a run's checkpoint.

    CheckpointError, before anything is allocated, when the files do not hold what config.json claims.
    """
    of_a_run = place.weights != place.about
    file = place.weights / "model.safetensors"
    if not of_a_run:
        files = {name: tensor.file for name, tensor in _check_theirs(place, config).items()}
        return load_wrapped(place.weights, device, config.context_length, change=lambda _: config, files=files)
    tensors = read_weights(file)
    model = build_wrapped(config, device)
    load_model(model, tensors, place.weights)
    return model


def _weights(stored: Mapping[str, Stored], own: Mapping[str, torch.Tensor]) -> Iterator[Stored]:
    """Those that are parameters of the class, with or without the first part of their name (`model.`, `bert.`), as
    transformers takes them. Others may be buffers, or of an older name: what it makes of those is seen when it has.
    """
    names = {name for name, tensor in own.items() if isinstance(tensor, torch.nn.Parameter)}
    names |= {name.partition(".")[2] for name in names}
    return (tensor for name, tensor in stored.items() if name in names or name.partition(".")[2] in names)


_QUANTISED = ("I8", "F8_E4M3", "F8_E5M2")


def _check_theirs(place: Place, config: WrappedConfig) -> dict[str, Stored]:
    """What the files of a folder hold, against the class that its config.json names. Names can differ: transformers
    knows older ones; what is then missing it finds itself.
    """
    stored = open_folder(place.weights)
    own, held = empty_tensors(config), sum(tensor.elements for tensor in stored.values())
    faults = [
        f"{name} is {list(tensor.shape)}, not {list(own[name].shape)}"
        for name, tensor in stored.items()
        if name in own and tensor.shape != own[name].shape
    ]
    faults += [
        f"{name} is of the type {tensor.dtype}"
        for name, tensor in stored.items()
        if name in own and own[name].is_floating_point() and tensor.dtype not in FLOATS
    ]
    faults += [  # under an older name, which transformers takes for the new one; masks were kept as U8 and BOOL
        f"{name} is of the type {tensor.dtype}"
        for name, tensor in stored.items()
        if name not in own and tensor.dtype in _QUANTISED and len(tensor.shape) > 1
    ]
    if config.parameters > held:
        faults.append(f"they hold {held:,} numbers, and its class has {config.parameters:,}")
    if faults:
        more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
        raise CheckpointError(
            f"the weights in {place.weights} are not those of its config.json: {'; '.join(faults[:5])}{more}",
            "get config.json and weights, all shards of them, from one revision",
        )
    return stored


def check_files(base: Base | None) -> list[Stored]:
    """The weights that somebody else wrote, where they are such. CheckpointError when the files of a checkpoint do not
    hold what its configuration claims: told by their headers, before data is prepared for it.
    """
    if base is None:
        return []
    if isinstance(base.config, WrappedConfig):
        if base.place.weights != base.place.about:
            return []
        return list(_weights(_check_theirs(base.place, base.config), empty_tensors(base.config)))
    if base.place.foreign:
        return check_folder(base.place.weights)
    check_fits(base.config, base.place.weights / "model.safetensors")
    return []


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
        **({} if recipe.model.wrapped is None else {"wrapped": recipe.model.wrapped}),
    }
    write_json(folder / BASE_FILE, said)


def loaded_base(recipe: Recipe, base: Base | None, device: torch.device) -> AnyModel | None:
    """The checkpoint's model; None where there is none. An error when its weights, or its class, are of no use to the
    recipe: to be called before a run folder is made for it.
    """
    if base is None:
        return None
    model = base_model(base, device, recipe.train.seed, later=recipe.adapter is not None)
    if isinstance(model, WrappedModel) and recipe.keeps_documents_apart:
        model.keeps_apart()
    return model


def starting_model(
    recipe: Recipe, loaded: AnyModel | None, config: AnyConfig, device: torch.device, precision: Precision
) -> tuple[AnyModel, dict[str, str]]:
    """The model as training begins, what shall not train frozen, and what every checkpoint of the run says of it.

    Args:
        recipe: with the shape filled in.
        loaded: the model of the checkpoint that it starts from, as `loaded_base` gives it.
        config: the model's, with the vocabulary known.
    """
    _check_recomputing(recipe, config, device)
    model: AnyModel
    if loaded is None:
        assert isinstance(config, ModelConfig), "only a checkpoint has a shape of another kind"
        model, said = build(config, recipe.train.seed, device), {}
    else:
        model, said = loaded, {"base": base_fingerprint(loaded)}
    put_around(model, recipe, precision)
    if recipe.train.recomputes:
        return_freed_blocks()  # else holes take what it saves: measured 1.19 GB of which 0.74 were alive
    else:
        keep_freed_blocks()
    return model, said


def _check_recomputing(recipe: Recipe, config: AnyConfig, device: torch.device) -> None:
    """RecipeError where a layer that is computed again would get other draws."""
    asked, drops = recipe.train.activation_checkpointing, draws_otherwise(recipe, config, device)
    if recipe.train.recomputes and drops:
        raise RecipeError(
            f"train.activation_checkpointing {asked} with {', '.join(drops)} on {device.type}: a layer would be "
            "computed again with other draws, and its gradient be wrong",
            "set train.activation_checkpointing: none, or no dropout",
        )


def reads_masks(recipe: Recipe, config: AnyConfig) -> bool:
    """Whether not every position sees all those before it, and those alone."""
    window = getattr(config, "sliding_window", None) is not None
    return recipe.keeps_documents_apart or window or recipe.train.traits.looks_both_ways


def start_alike(runtime: Runtime, model: AnyModel, checkpoint: Checkpoint | None) -> list[str]:
    """Gives all processes the model of process 0, as each has drawn or loaded its own; a line on it where one had
    another. CheckpointError when that is of what came from the checkpoint.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    names = differing(runtime, tensors)
    restored = {} if checkpoint is None else saved_weights(model)
    if both := [name for name in names if name in restored]:
        assert checkpoint is not None
        raise CheckpointError(
            f"the processes of this run read other weights from {checkpoint.path}: {', '.join(both[:3])}",
            "all must see the same run folder: name one on a disk that they share with --run",
        )
    take_from_main(runtime, {name: tensors[name] for name in names})
    if not names:
        return []
    kind = "drew or loaded" if checkpoint is None else "made"
    return [
        f"not all processes {kind} the weights that process 0 did ({len(names)} of {len(tensors)} tensors, "
        f"{names[0]} for one; processors of other kinds, versions or files do that): all begin with those of process 0"
    ]


def same_base(checkpoint: Checkpoint, said: Mapping[str, str]) -> None:
    """CheckpointError when a run would go on from another base than it began with."""
    before = checkpoint.state()["identity"].get("base")
    if before is not None and "base" in said:
        check_base(before, said["base"], checkpoint.path)
