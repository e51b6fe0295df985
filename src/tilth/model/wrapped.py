"""Any other architecture of transformers, through its own class, behind the interface of our own model.

    load_wrapped(folder, device) -> WrappedModel     weights from safetensors; no code from the checkpoint is run
    build_wrapped(config, device) -> WrappedModel    the class without them, for what a run has saved
    empty_model(config, device) -> AnyModel          shapes alone, of ours too
    WrappedModel.forward(...)                        what its output layer is given [B, T, D]
    WrappedModel.logits, output_weight, output_bias, new_cache, config

The output layer of their class is made to hand through what it gets, so that the loss can make logits in pieces here
as well. What a class cannot do is found out, not assumed: when it is loaded its scores are compared with hidden states
times the output matrix, when documents are first packed, a packed row with its documents alone (wrapped_masks.py), and
when it first generates, what it keeps of tokens in a cache with reading them all again.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilth.core.errors import CheckpointError, first_line
from tilth.model.attention import document_mask
from tilth.model.config import ModelConfig
from tilth.model.finite import is_finite, no_number
from tilth.model.paper import on_paper
from tilth.model.transformer import Transformer
from tilth.model.wrapped_aside import reason_to_ignore
from tilth.model.wrapped_config import (
    WrappedConfig,
    auto_class,
    library,
    quiet,
    read_wrapped_config,
    their_config,
    together,
)
from tilth.model.wrapped_masks import Manner, find_manner, prepared

_CLOSE, _ROUNDED = 1e-3, 16
"""Scores that differ by less count as equal; by so many units in the last place, as made of the same numbers."""
_AS_ROUNDING, _NEIGHBOURS = 8, 4
"""So many times what other rows of a batch change counts as rounding, and how many such rows are tried."""
_FAULTS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, NotImplementedError)
"""What a class raises that does not take what it is given."""
_CACHES = ("past_key_values", "cache_params")
"""What classes call a cache: of keys and values, and of states (Mamba)."""
_CACHED = 8
"""Tokens with which a cache is tried."""
_LARGE = 1000.0
"""Scores that show whether a class caps them: no cap is so high."""
_log = logging.getLogger(__name__)


class CacheManner(NamedTuple):
    """How a class reads on after what its cache holds."""

    counted: bool = False
    """Whether positions must be given."""
    goes_on: bool = True
    """Whether several tokens may follow at once, not only one at a time."""
    by_row: bool = True
    """Whether some rows of it, or a row several times, may be taken for all."""


class WrappedCache:
    """Keys and values as their class keeps them, or, where `manner` is None, the tokens, which are all read again.
    `length`: tokens that it holds.
    """

    def __init__(self, past: Any, capacity: int, manner: CacheManner | None) -> None:
        self.past, self.capacity, self.manner, self.length = past, capacity, manner, 0
        self._ids_BT: Tensor | None = None

    def cut(self, length: int) -> bool:
        """Whether it holds no more than `length` tokens, and more can follow: not every class can take tokens back."""
        if self.manner is None:
            self._ids_BT = None if self._ids_BT is None else self._ids_BT[:, :length]
            self.length = min(self.length, length)
            return True
        return self.length == 0 or (self.length <= length and self.manner.goes_on)

    def take(self, rows: list[int]) -> bool:
        """Holds the sequences of these rows from now on, each as often as it is named; False, and as before, where its
        class does not have them row by row.
        """
        if self.manner is None:
            self._ids_BT = None if self._ids_BT is None else self._ids_BT[rows]
            return True
        if self.manner.by_row:
            self.past.reorder_cache(torch.tensor(rows))
        return self.manner.by_row

    def with_all(self, input_ids_BT: Tensor) -> Tensor:
        """All tokens, with these after those that it holds."""
        before = self._ids_BT
        self._ids_BT = input_ids_BT if before is None else torch.cat([before, input_ids_BT], dim=1)
        self.length = self._ids_BT.shape[1]
        return self._ids_BT

    def grow(self, capacity: int) -> None:
        """Makes room for `capacity` tokens."""
        self.capacity = max(self.capacity, capacity)


class WrappedModel(nn.Module):
    """A causal or masked language model of transformers. `hf` is theirs, its names are its own. `ignored`: tensors of
    its files that it does not need, with the reason.
    """

    def __init__(self, hf: Any, config: WrappedConfig, ignored: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__()
        self.hf, self.config, self.ignored = hf, config, dict(ignored)
        self._manner: Manner | None = None
        self._tried = False
        self._caches: CacheManner | None = None
        self._cache_tried = False
        taken = inspect.signature(type(hf).forward).parameters
        self._cache_name = next((name for name in _CACHES if name in taken), None)  # RWKV takes none: it has a state
        self._check_output()

    def forward(
        self,
        input_ids_BT: Tensor,
        positions_BT: Tensor | None = None,
        mask: Tensor | None = None,
        cache: WrappedCache | None = None,
        token_types_BT: Tensor | None = None,
    ) -> Tensor:
        """Hidden states that the output matrix is multiplied with [B, T, D]; arguments as of `Transformer.forward`.

        RecipeError when documents are to be kept apart (a mask or positions), and the class cannot.
        """
        if mask is not None and not self.config.is_causal and bool(mask.all()):
            mask = None  # what a class that looks both ways does unasked, and some take no other
        if mask is not None or positions_BT is not None:
            self.keeps_apart()
        if cache is not None and cache.manner is None:
            read: Tensor = self(cache.with_all(input_ids_BT))
            return read[:, -input_ids_BT.shape[1] :]
        arguments: dict[str, Any] = {"input_ids": input_ids_BT}
        if self.config.is_causal:
            arguments["use_cache"] = cache is not None
            if cache is not None:
                arguments[self._cache_name or _CACHES[0]] = cache.past
        if cache is not None and cache.manner is not None and cache.manner.counted:
            here = torch.arange(cache.length, cache.length + input_ids_BT.shape[1], device=input_ids_BT.device)
            arguments["position_ids"] = here.expand_as(input_ids_BT)
        if positions_BT is not None:
            arguments["position_ids"] = positions_BT
        if token_types_BT is not None:
            arguments["token_type_ids"] = token_types_BT
        if mask is not None and self._manner is not None:
            causal = self.config.is_causal
            arguments["attention_mask"] = prepared(self._manner, self.hf, mask, positions_BT, causal=causal)
        with _handing_through(self._output):
            hidden: Tensor = self.hf(**arguments).logits
        if cache is not None:
            cache.length += input_ids_BT.shape[1]
        return hidden

    def keeps_apart(self) -> None:
        """RecipeError when a packed row gives other scores than its documents alone."""
        if not self.packs:
            raise together(self.config.architecture)

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the tokens [B, T, V]."""
        bias = None if self.output_bias is None else self.output_bias.to(hidden_BTD.dtype)
        return F.linear(hidden_BTD, self.output_weight, bias)

    @property
    def _output(self) -> nn.Linear:
        output: nn.Linear = self.hf.get_output_embeddings()
        return output

    @property
    def input_weight(self) -> Tensor:
        """The embeddings of the tokens [V, D']."""
        weight: Tensor = self.hf.get_input_embeddings().weight
        return weight

    @property
    def output_weight(self) -> Tensor:
        """The output matrix [V, D]."""
        return self._output.weight

    @property
    def output_bias(self) -> Tensor | None:
        """What is added to the scores [V], where the class has such."""
        return self._output.bias

    @property
    def logit_softcap(self) -> None:
        """A class that caps its logits is refused when it is loaded."""
        return

    def new_cache(self, batch: int, capacity: int) -> WrappedCache:
        """An empty cache, for as many sequences as it is first given. What their class keeps is tried out once, and
        where scores with it are not those without, it is not used.
        """
        del batch
        if not self._cache_tried:
            self._cache_tried, self._caches = True, self._cache_manner()
            if self._caches is None:
                _log.warning(
                    "%s %s: it reads all tokens again for each new one, which is slower",
                    self.config.architecture,
                    "gives other scores with a cache than without" if self._cache_name else "takes no cache of ours",
                )
        return self._empty_cache(capacity, self._caches)

    def _empty_cache(self, capacity: int, manner: CacheManner | None) -> WrappedCache:
        past = None if manner is None else library().DynamicCache(config=self.hf.config)
        return WrappedCache(past, capacity, manner)

    @torch.no_grad()
    def _cache_manner(self) -> CacheManner | None:
        """How tokens read one after another give what they give when they are read at once; None: in no way."""
        ids = _some_ids(self.config, min(_CACHED, self.config.context_length), self.output_weight.device)
        count = ids.shape[1]
        half = max(1, count // 2)
        with _evaluating(self), torch.autocast(ids.device.type, enabled=False):
            whole = self(ids)
            # What comes later changes nothing of what was before but its rounding.
            rounding = torch.stack([(self(ids[:, :n]) - whole[:, :n]).abs().max() for n in range(1, count + 1)]).max()
            most = float(_ROUNDED * torch.finfo(whole.dtype).eps * (1 + whole.abs().max()) + _AS_ROUNDING * rounding)
            steps = [half, *[1] * (count - half)]
            # The nearest of both: a wrong position may do little where weights are freshly drawn, but never less.
            found = [(self._off(ids, whole, steps, CacheManner(counted)), counted) for counted in (False, True)]
            off, counted = min(found)
            if off > most:
                return None
            turns, manner = [half, count - half] if count > half else [half], CacheManner(counted)
            goes_on = self._off(ids, whole, turns, manner) <= most
            return CacheManner(counted, goes_on, self._off(ids, whole, steps, manner, [[0, 0], [1]]) <= most)

    def _off(
        self,
        ids_1T: Tensor,
        whole_1TD: Tensor,
        pieces: list[int],
        manner: CacheManner,
        taken: Sequence[list[int]] = (),
    ) -> float:
        """How far from `whole` it comes out, read in such pieces; `taken`: the rows that are taken after each, of which
        the last one is asked, and the others read something else.
        """
        try:
            cache, rows = self._empty_cache(ids_1T.shape[1], manner), 1
            read: list[Tensor] = []
            for piece, then in zip_longest(torch.split(ids_1T, pieces, dim=1), taken[: len(pieces)]):
                others = (piece + 1).clamp(max=self.config.vocab_size - 1).expand(rows - 1, -1)
                read.append(self(torch.cat([others, piece]), cache=cache)[-1:])
                if then is not None:
                    cache.take(then)
                    rows = len(then)
            off = float((torch.cat(read, dim=1) - whole_1TD).abs().max())
        except _FAULTS:
            return math.inf  # their class takes no such cache, or no positions
        return math.inf if math.isnan(off) else off

    def save(self, folder: Path, shard_bytes: int = 5 << 30) -> None:
        """Writes config.json and the weights, in files of `shard_bytes` at the most, as their class does."""
        with quiet():
            self.hf.save_pretrained(folder, max_shard_size=shard_bytes)
        held: Counter[torch.dtype] = Counter()
        for parameter in self.hf.parameters():
            held[parameter.dtype] += parameter.numel()
        if len(held) > 1:  # they name that of the first
            config = json.loads((folder / "config.json").read_text())
            kind = str(held.most_common(1)[0][0]).removeprefix("torch.")
            config |= {key: kind for key in ("dtype", "torch_dtype") if key in config}
            (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    @property
    def packs(self) -> bool:
        """Whether a packed row gives what its documents give alone; tried out once, on seven tokens."""
        if not self._tried:
            self._tried = True
            if self.config.takes_documents:
                self._manner = find_manner(self.hf, self.config.context_length, self._packed_equals_alone)
        return self._manner is not None

    @torch.no_grad()
    def _packed_equals_alone(self, manner: Manner, first: int, second: int) -> bool:
        self._manner = manner  # as long as it is tried
        ids = _some_ids(self.config, first + second, self.output_weight.device)
        documents = torch.tensor([[0] * first + [1] * second], device=ids.device)
        positions = torch.tensor([[*range(first), *range(second)]], device=ids.device)
        with _evaluating(self), torch.autocast(ids.device.type, enabled=False):
            mask = document_mask(documents, self.config.is_causal)
            other = torch.cat([ids[:, :first].roll(1), ids[:, first:]], dim=1)
            try:
                packed, beside_another = self(ids, positions, mask), self(other, positions, mask)
                alone = torch.cat([self(ids[:, :first]), self(ids[:, first:])], dim=1)
                rounding = self._rounding(ids, positions, mask)
            except _FAULTS:
                return False  # their class takes no such mask
        # What a state carries over is little where weights are freshly drawn, but never nothing.
        reaches = (packed - beside_another)[:, first:].abs().max()
        exact = _ROUNDED * torch.finfo(packed.dtype).eps * (1 + packed.abs().max())
        return bool(reaches <= exact + _AS_ROUNDING * rounding) and _close(packed, alone)

    def _rounding(self, ids_1T: Tensor, positions_1T: Tensor, mask_11TT: Tensor) -> Tensor:
        """How much the scores of a row depend on the rows beside it in a batch: no state reaches over, but experts sum
        up in another order beside other tokens, and the deeper a model, the more comes of it.
        """
        positions, mask = positions_1T.expand(2, -1), mask_11TT.expand(2, -1, -1, -1)
        others = [ids_1T.roll(1 + turn) for turn in range(_NEIGHBOURS)]
        found = [self(torch.cat([ids_1T, other]), positions, mask)[0] for other in others]
        return torch.stack([(one - found[0]).abs().max() for one in found]).max()

    @torch.no_grad()
    def _check_output(self) -> None:
        if self.output_weight.is_meta or on_paper(self.output_weight):  # there is nothing to compare
            return
        ids = _some_ids(self.config, 5, self.output_weight.device)
        try:
            with _evaluating(self):
                ours = self.logits(self(ids))
                by = float(_LARGE / ours.abs().max().clamp(1e-6, _LARGE))
                with _times(self._output, by):
                    theirs = self.hf(input_ids=ids).logits
        except _FAULTS as error:
            if self._reads(ids):
                raise self._otherwise("its head computes more than that product") from error
            raise CheckpointError(
                f"{self.config.architecture} cannot read five tokens: {first_line(error)}",
                "its config.json may ask for what its class cannot do: get the checkpoint again, or use another",
            ) from error
        if theirs.shape != ours.shape or not _close(theirs, by * ours):
            raise self._otherwise("it scales or caps them")

    def _reads(self, ids_1T: Tensor) -> bool:
        """Whether the class gives scores of these where its output layer is left as it is."""
        try:
            with _evaluating(self):
                self.hf(input_ids=ids_1T)
        except _FAULTS:
            return False
        return True

    def _otherwise(self, how: str) -> CheckpointError:
        return CheckpointError(
            f"{self.config.architecture} computes its scores otherwise than as hidden states times its output matrix "
            f"({how})",
            "use a family that tilth has itself, or another checkpoint",
        )


AnyModel = Transformer | WrappedModel
"""What the trainer, the evaluator and the generator take."""
AnyConfig = ModelConfig | WrappedConfig
"""What such a model is configured by."""


def load_wrapped(
    folder: Path,
    device: torch.device | str = "cpu",
    context_length: int | None = None,
    change: Callable[[WrappedConfig], WrappedConfig] = lambda config: config,
    files: Mapping[str, Path] = MappingProxyType({}),
) -> WrappedModel:
    """The model of a folder of any causal or masked architecture that transformers has, in fp32.

    Args:
        context_length: tokens at once; left out: what its config.json names, or its tokenizer, or 2,048.
        change: what the recipe wants otherwise (dropout); nothing that changes shapes.
        files: in which file a tensor is, as far as that is known, for what is said of it.

    CheckpointError when the architecture is unknown there, needs code of its own, or its weights are not all there, are
    more than the class takes, or hold what is no finite number.
    """
    config = change(read_wrapped_config(folder, context_length))
    try:
        with quiet():
            hf, info = auto_class(config).from_pretrained(
                folder,
                config=their_config(config, folder / "config.json"),
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"transformers cannot load {folder}: {first_line(error)}",
            "the folder must hold config.json and all weights in safetensors, for a class that transformers has",
        ) from error
    faults = [f"{name} is missing" for name in info["missing_keys"]]
    faults += [f"{name} does not fit" for name in map(str, info.get("mismatched_keys", ()))]
    if faults:
        raise CheckpointError(f"{folder} is not whole: {'; '.join(sorted(faults)[:5])}", "get the checkpoint again")
    ignored = {name: reason_to_ignore(name, config.values) for name in sorted(info["unexpected_keys"])}
    if unknown := [name for name, reason in ignored.items() if reason is None]:
        more = f" (and {len(unknown) - 5} more)" if len(unknown) > 5 else ""
        raise CheckpointError(
            f"the weights in {folder} are not those of its config.json: {config.architecture} of transformers "
            f"{library().__version__} has no {', '.join(unknown[:5])}{more}",
            "get config.json and weights from one revision; what needs these weights is another class",
        )
    for name, weight in hf.named_parameters():
        if not is_finite(weight.detach()):
            raise no_number(files.get(name, folder), name)
    return WrappedModel(hf.to(device), config, {name: reason for name, reason in ignored.items() if reason})


def build_wrapped(config: WrappedConfig, device: torch.device | str = "cpu") -> WrappedModel:
    """The same class with weights that mean nothing yet, to be filled from a checkpoint of a run."""
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hf = auto_class(config).from_config(
            their_config(config, Path("config.json")), dtype=torch.float32, trust_remote_code=False
        )
    there = next(hf.parameters()).device == torch.device(device)
    return WrappedModel(hf if there else hf.to(device), config)


def empty_model(config: AnyConfig, device: torch.device | str) -> AnyModel:
    """The model as far as its shapes go; what its weights hold is not said. For torch's meta device, and on paper."""
    with torch.device(device):
        if not isinstance(config, WrappedConfig):
            return Transformer(config)
        with _undrawn():
            return build_wrapped(config, device)


@contextlib.contextmanager
def _undrawn() -> Iterator[None]:
    """Within, new models of transformers leave their weights as they are: some draw until no number lies too far out,
    which has no end where there are no numbers (`trunc_normal_` of ModernBERT, on paper).
    """
    base = library().PreTrainedModel
    before = base.initialize_weights
    base.initialize_weights = lambda self, *options, **more: None
    try:
        yield
    finally:
        base.initialize_weights = before


@contextlib.contextmanager
def _handing_through(output: nn.Module) -> Iterator[None]:
    """Within, a layer gives what it is given."""
    output.forward = lambda hidden: hidden
    try:
        yield
    finally:
        del output.forward


@contextlib.contextmanager
def _times(output: nn.Module, by: float) -> Iterator[None]:
    """Within, a layer gives so many times what it gives: a cap shows on large scores."""
    given = output.forward
    output.forward = lambda hidden: given(hidden) * by
    try:
        yield
    finally:
        del output.forward


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _some_ids(config: WrappedConfig, count: int, device: torch.device) -> Tensor:
    """Ids that differ, from the middle of the vocabulary: special tokens stand at its ends."""
    return (torch.arange(count, device=device)[None] + config.vocab_size // 2) % config.vocab_size


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _CLOSE * (1 + other.abs().max()))
