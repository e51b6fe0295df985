"""What a checkpoint holds of a model whose base is frozen: what trains, and which base that was trained beside.

trainable_state(model)                  the tensors to save; of a model that trains whole, all its parameters
load_trainable(model, tensors, place)   puts them back
base_fingerprint(model)                 of the base as it was loaded, before anything was put beside it
check_base(saved, now, place)           refuses to go on beside another base
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tilth.checkpoint.tensors import copy_into
from tilth.core.errors import CheckpointError
from tilth.model.adapters import adapter_names
from tilth.model.unread import is_unread, read

_PIECE = 1 << 22  # numbers that are hashed at a time


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that train, by name, detached and in place: not the frozen ones, and no buffers, which follow from
    the base and the recipe.
    """
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}


def load_trainable(model: nn.Module, tensors: Mapping[str, Tensor], place: Path) -> None:
    """Puts back what `trainable_state` gave, all and nothing else; CheckpointError names what does not fit."""
    remedy = "use the recipe that it was trained with: the same adapter, the same parameters frozen"
    copy_into(trainable_state(model), tensors, place, remedy)


def base_fingerprint(model: nn.Module) -> str:
    """SHA-256 (hex) over name, shape and values of all tensors of a model as it was loaded.

    To be taken before an adapter is applied. Half precision counts as the fp32 of the same value, so it does not matter
    in which of them the same weights were loaded. Those that are still in their files are read for it, one at a time.
    """
    assert not adapter_names(model), "the fingerprint is the base's, before an adapter is beside it"
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        digest.update(f"{name}{list(tensor.shape)}".encode())
        for piece in _pieces(read(tensor, device="cpu") if is_unread(tensor) else tensor):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(tensor: Tensor) -> Iterator[memoryview]:
    for part in torch.split(tensor.detach().reshape(-1), _PIECE):
        values = part.float() if part.dtype in (torch.bfloat16, torch.float16) else part
        if values.numel():
            yield values.contiguous().cpu().view(torch.uint8).numpy().data.cast("B")


def check_base(saved: str, now: str, place: Path) -> None:
    """CheckpointError unless the base is the one that was trained beside."""
    if saved != now:
        raise CheckpointError(
            f"{place} was trained beside other base weights: their fingerprint was {saved[:12]}, and is now {now[:12]}",
            "name the checkpoint in model.from that the run began with (a Hub id can have got new weights: pin its "
            "revision), or start another run with --run NEW_FOLDER",
        )
