"""Room for new tokens: the embedding, and the output where that is a matrix of its own, get more rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tilth.core.errors import RecipeError
from tilth.core.random import derive_seed
from tilth.model.transformer import Transformer
from tilth.model.wrapped import AnyModel, WrappedModel
from tilth.model.wrapped_config import quiet

SPREAD = 1e-3


@dataclass(frozen=True, slots=True)
class Resized:
    """Ids before and now, and the names of the parameters that grew."""

    before: int
    now: int
    grown: list[str]

    @property
    def added(self) -> int:
        """New ids."""
        return self.now - self.before


@torch.no_grad()
def resize_embeddings(model: AnyModel, vocab_size: int, seed: int) -> Resized:
    """Gives the model `vocab_size` ids. Rows that were there keep their bits; RecipeError when there would be fewer.

    A new row is the mean of those there (Hewitt 2021: so no new token takes much probability from the old ones at
    first), and a thousandth of their deviation besides, drawn from (seed, parameter, row), so that no two are alike.
    To be done before an adapter is applied: the base of the adapter is the larger model.
    """
    before = model.config.vocabulary
    if vocab_size < before:
        raise RecipeError(
            f"the model has {before} ids, and {vocab_size} would lose {before - vocab_size} of them",
            f"keep model.vocab_size at {before} or more: ids that are not used do no harm",
        )
    if isinstance(model, WrappedModel):
        return _resize_theirs(model, vocab_size, seed)
    grown = [name for name, parameter in model.named_parameters() if _is_by_id(model, name, parameter)]
    for name in grown if vocab_size > before else []:
        _grow(model, name, vocab_size, seed)
    model.embed_tokens.num_embeddings = vocab_size
    if model.lm_head is not None:
        model.lm_head.out_features = vocab_size
    model.config = model.config.model_copy(update={"vocab_size": vocab_size})
    return Resized(before, vocab_size, grown if vocab_size > before else [])


def _is_by_id(model: Transformer, name: str, parameter: Tensor) -> bool:
    outputs = ("lm_head.weight", "lm_head.bias", "output_bias")
    return parameter is model.embed_tokens.weight or name in outputs


def _grow(model: Transformer, name: str, rows: int, seed: int) -> None:
    parent, _, key = name.rpartition(".")
    old = model.get_parameter(name)
    grown = torch.cat([old, _new_rows(old, rows, name, seed)])
    setattr(model.get_submodule(parent), key, nn.Parameter(grown, requires_grad=old.requires_grad))


def _new_rows(old: Tensor, rows: int, name: str, seed: int) -> Tensor:
    """Rows `len(old)` to `rows` of a parameter."""
    mean, deviation = old.float().mean(0), old.float().std(0, correction=0)
    new = []
    for row in range(len(old), rows):
        generator = torch.Generator().manual_seed(derive_seed(seed, f"new-token/{name}", row))
        noise = torch.randn(mean.shape, generator=generator).to(old.device)
        new.append(mean + SPREAD * deviation * noise)
    return torch.stack(new).to(old.dtype)


def _resize_theirs(model: WrappedModel, vocab_size: int, seed: int) -> Resized:
    """Their class knows what of it goes by ids; the new rows are ours."""
    before = model.config.vocabulary
    if vocab_size > before:
        with quiet(), torch.random.fork_rng(devices=[]):
            model.hf.resize_token_embeddings(vocab_size, mean_resizing=False)
    by_id = {id(tensor) for tensor in (model.input_weight, model.output_weight, model.output_bias)}
    grown = {name: own for name, own in model.named_parameters() if id(own) in by_id and vocab_size > before}
    for name, parameter in grown.items():
        parameter[before:] = _new_rows(parameter[:before], vocab_size, name, seed)
    model.config = model.config.model_copy(update={"vocab_size": vocab_size})
    return Resized(before, vocab_size, list(grown))
