"""Token by token, with a cache. Knows nothing of text: ids in, ids out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

import torch
from torch import Tensor

from tilth.generate.config import SamplingConfig
from tilth.generate.decode import Reader, reader_of
from tilth.generate.prefix_cache import Memory
from tilth.generate.sampling import Sampler
from tilth.model.wrapped import AnyModel

_MOST_GOING = 0.75
"""Of so many rows at most that go on the others are left out: what is left has to be moved together for it."""


@torch.no_grad()
def generate_ids(
    model: AnyModel,
    prompt_ids: list[int],
    sampling: SamplingConfig,
    *,
    samples: int = 1,
    max_new_tokens: int = 200,
    stop_ids: Collection[int] = (),
    vocab_size: int | None = None,
    first_ids: Tensor | None = None,
    memory: Memory | None = None,
    stopped: Callable[[], bool] | None = None,
    over: Callable[[int], bool] | None = None,
) -> Iterator[list[int | None]]:
    """The next id of every sample, one list per position; None where a sample has ended (after one of `stop_ids`).
    What others write does not change when one ends, but by rounding.

    A prompt longer than the context keeps its end. When the context is full, the last half of it is read again from
    position 0 and generation goes on from there.

    Args:
        vocab_size: ids from here on are padding of the model's vocabulary, and never drawn.
        first_ids: the ids among which the first one is chosen; left out: all.
        memory: of an earlier call with the same model; what the prompt has in common with it is not read again.
        stopped: asked before every token; true ends all samples.
        over: asked after every token of a sample that goes on; true ends it, as one of `stop_ids` does.
    """
    text = _Text(model, prompt_ids, samples, max_new_tokens, memory)
    sampler, going = Sampler(sampling, samples), list(range(samples))
    rows = going  # the sample of each; one that has ended is computed on until it is worth leaving it out
    for _ in range(max_new_tokens):
        if stopped is not None and stopped():
            return
        logits_BV = text.logits()[:, :vocab_size]
        if first_ids is not None:
            chosen = logits_BV.new_full(logits_BV.shape, float("-inf"))
            logits_BV, first_ids = chosen.index_copy(1, first_ids, logits_BV[:, first_ids]), None
        tokens = dict(zip(rows, text.add(sampler(logits_BV)), strict=True))
        row: list[int | None] = [None] * samples
        for sample in going:
            row[sample] = tokens[sample]
        going = [sample for sample in going if tokens[sample] not in stop_ids]
        text.end(not going)
        yield row
        going = [sample for sample in going if over is None or not over(sample)]
        if not going:
            return
        if len(going) <= _MOST_GOING * len(rows):
            kept = set(going)
            places = [place for place, sample in enumerate(rows) if sample in kept]
            if text.keep(places):
                sampler.keep(places)
                rows = going


class _Text:
    """What all samples hold so far, within the context, and the cache of what the model has read of it."""

    def __init__(
        self, model: AnyModel, prompt_ids: list[int], samples: int, max_new_tokens: int, memory: Memory | None
    ) -> None:
        assert prompt_ids, "the caller starts an empty prompt with end-of-text"
        self._model, self._samples, self._window = model, samples, model.config.context_length
        self._device = model.output_weight.device
        self._history = deque([[token] * samples for token in prompt_ids[-self._window :]], self._window)
        self._capacity = min(self._window, len(prompt_ids) + max_new_tokens)
        self._unread, self._cache = _ids(self._history, 0, self._device), None
        self._read: Reader | None = None
        self._memory = memory
        if memory is not None and len(prompt_ids) <= self._window:
            assert samples == 1
            self._cache = memory.open(model, prompt_ids, self._capacity)
            self._unread = self._unread[:, self._cache.length :]

    def logits(self) -> Tensor:
        """Reads what is not read yet; of what comes next [B, V]."""
        if self._cache is None or self._cache.length >= self._window:
            if self._cache is not None:
                again = len(self._history) - max(1, self._window // 2)
                self._unread = _ids(self._history, again, self._device)
            if self._cache is None and self._samples > 1 and (logits_BV := self._alike()) is not None:
                return logits_BV
            self._cache = self._model.new_cache(self._samples, self._capacity)
            if self._memory is not None:
                self._memory.forget()
                self._memory = None
        if self._read is None:
            self._read = reader_of(self._model, self._samples)
        logits_BV = self._read(self._unread, self._cache)
        if self._memory is not None:
            self._memory.note(self._unread[0].tolist())
        return logits_BV

    def _alike(self) -> Tensor | None:
        """The prompt, which is that of all samples, is read once, and what the cache holds of it is then every
        sample's [B, V]; None where their class has no cache that could be so.
        """
        cache = self._model.new_cache(1, self._capacity)
        if not cache.take([0]):
            return None
        logits_1V = reader_of(self._model, 1)(self._unread[:1], cache)
        cache.take([0] * self._samples)
        self._cache = cache
        return logits_1V.expand(self._samples, -1)

    def add(self, ids: Tensor) -> list[int]:
        """The next id of each sample [B]."""
        tokens: list[int] = ids.tolist()
        self._unread = ids[:, None]
        self._history.append(tokens)
        return tokens

    def keep(self, rows: list[int]) -> bool:
        """Holds these of its rows alone from now on; False, and as before, where the cache cannot."""
        assert self._cache is not None and self._memory is None
        if not self._cache.take(rows):
            return False
        self._unread, self._samples, self._read = self._unread[rows], len(rows), None
        self._history = deque(([tokens[row] for row in rows] for tokens in self._history), self._window)
        return True

    def end(self, ended: bool) -> None:
        """Says whether all samples have ended with what was added."""
        if self._memory is not None:
            self._memory.ended = ended


def _ids(history: Iterable[list[int]], start: int, device: torch.device) -> Tensor:
    """Tokens of all samples from position `start` of what is remembered [B, T]."""
    return torch.tensor(list(history)[start:], device=device).T
