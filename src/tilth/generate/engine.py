"""Token by token, with a cache. Knows nothing of text: ids in, ids out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

import torch
from torch import Tensor

from tilth.generate.config import SamplingConfig
from tilth.generate.decode import reader_of
from tilth.generate.memory import Memory
from tilth.generate.sampling import Sampler
from tilth.model.wrapped import AnyModel


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
) -> Iterator[list[int | None]]:
    """The next id of every sample, one list per position; None where a sample has ended (after one of `stop_ids`).

    A prompt longer than the context keeps its end. When the context is full, the last half of it is read again from
    position 0 and generation goes on from there.

    Args:
        vocab_size: ids from here on are padding of the model's vocabulary, and never drawn.
        first_ids: the ids among which the first one is chosen; left out: all.
        memory: of an earlier call with the same model; what the prompt has in common with it is not read again.
        stopped: asked before every token; true ends all samples.
    """
    assert prompt_ids, "the caller starts an empty prompt with end-of-text"
    window = model.config.context_length
    device = model.output_weight.device
    history = deque([[token] * samples for token in prompt_ids[-window:]], window)
    sampler, ended = Sampler(sampling, samples), [False] * samples
    capacity = min(window, len(prompt_ids) + max_new_tokens)
    unread, cache = _ids(history, 0, device), None
    read = reader_of(model, samples)
    if memory is not None and len(prompt_ids) <= window:
        assert samples == 1
        cache = memory.open(model, prompt_ids, capacity)
        unread = unread[:, cache.length :]
    for _ in range(max_new_tokens):
        if stopped is not None and stopped():
            return
        if cache is None or cache.length >= window:
            unread = unread if cache is None else _ids(history, len(history) - max(1, window // 2), device)
            cache = model.new_cache(samples, capacity)
            if memory is not None:
                memory.forget()
                memory = None
        logits_BV = read(unread, cache)
        if memory is not None:
            memory.note(unread[0].tolist())
        logits_BV = logits_BV[:, :vocab_size]
        if first_ids is not None:
            chosen = logits_BV.new_full(logits_BV.shape, float("-inf"))
            logits_BV, first_ids = chosen.index_copy(1, first_ids, logits_BV[:, first_ids]), None
        ids = sampler(logits_BV)
        unread, tokens = ids[:, None], ids.tolist()
        history.append(tokens)
        row = [None if over else token for token, over in zip(tokens, ended, strict=True)]
        ended = [over or i in stop_ids for i, over in zip(row, ended, strict=True)]
        if memory is not None:
            memory.ended = all(ended)
        yield row
        if all(ended):
            return


def _ids(history: Iterable[list[int]], start: int, device: torch.device) -> Tensor:
    """Tokens of all samples from position `start` of what is remembered [B, T]."""
    return torch.tensor(list(history)[start:], device=device).T
