"""From logits to the next token: temperature, top-k, top-p, and a draw that depends on (seed, sample, position)
alone.

Nothing is sorted that need not be: a vocabulary of 50,000 takes 6 ms for each sequence, a small model's token 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tilth.core.random import derive_seed
from tilth.generate.config import SamplingConfig

_NUCLEUS = 512
"""So many of the likeliest are looked at first for top-p; all where they hold too little."""
_BLOCK = 256
"""So many probabilities are summed together before it is known among which the draw falls."""


class Sampler:
    """Draws tokens for `samples` sequences; each has a stream of its own, so that sample 3 is the same alone or among
    ten.
    """

    def __init__(self, config: SamplingConfig, samples: int) -> None:
        self.config = config
        self._streams = [
            np.random.Generator(np.random.PCG64(derive_seed(config.seed, "generate", i))) for i in range(samples)
        ]
        self._room: Tensor | None = None

    def __call__(self, logits_BV: Tensor) -> Tensor:
        """The next token of each sequence, int64 [B]; the likeliest where the logits give no probabilities (NaN)."""
        if self.config.temperature == 0:
            return logits_BV.argmax(-1)
        probabilities, ids = candidates(logits_BV.float(), self.config, self._room_for(logits_BV))
        draws = torch.tensor([stream.random() for stream in self._streams], dtype=torch.float64)
        chosen, known = (found.to(logits_BV.device) for found in drawn(probabilities.cpu(), draws))
        tokens = chosen if ids is None else ids.gather(-1, chosen[:, None])[:, 0]
        return tokens if bool(known.all()) else torch.where(known, tokens, logits_BV.argmax(-1))

    def keep(self, rows: Sequence[int]) -> None:
        """Draws for these of its sequences from now on."""
        self._streams = [self._streams[row] for row in rows]

    def _room_for(self, logits_BV: Tensor) -> Tensor:
        """The same memory for every token: what is new to a process is cleared by the system first, page by page."""
        if self._room is None or self._room.shape[1:] != logits_BV.shape:
            self._room = torch.empty(2, *logits_BV.shape, device=logits_BV.device)
        return self._room


def candidates(
    logits_BV: Tensor, config: SamplingConfig, room_2BV: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Probabilities and ids [B, n] of the tokens that may be drawn, after temperature, top-k, then top-p, the likeliest
    first; without either the probabilities of all, by id, and None. `room_2BV` may be written over, and handed out.
    """
    top_p = None if config.top_p == 1 else config.top_p  # rounding must not make `all` mean `nearly all`
    if config.top_k is not None:
        values, ids = largest(logits_BV, config.top_k)
        probabilities = _softmax(values, config.temperature)
        return probabilities if top_p is None else _nucleus(probabilities, top_p), ids
    probabilities = _softmax(logits_BV, config.temperature, room_2BV)
    if top_p is None:
        return probabilities, None
    likeliest, ids = _likeliest(logits_BV, probabilities, top_p, _NUCLEUS)
    return _nucleus(likeliest, top_p), ids


def _likeliest(logits_BV: Tensor, probabilities_BV: Tensor, top_p: float, count: int) -> tuple[Tensor, Tensor]:
    """Probabilities and ids [B, n] of the likeliest that hold `top_p` together, and of some more, down to 0."""
    ids = largest(logits_BV, count)[1]
    found = probabilities_BV.gather(-1, ids)
    short = (found.cumsum(-1)[:, -1] < top_p).nonzero()[:, 0]
    if count >= logits_BV.shape[1] or not len(short):
        return found, ids
    more, more_ids = _likeliest(logits_BV[short], probabilities_BV[short], top_p, logits_BV.shape[1])
    missing = more.shape[1] - ids.shape[1]
    found, ids = F.pad(found, (0, missing)), F.pad(ids, (0, missing))
    found[short], ids[short] = more, more_ids
    return found, ids


def largest(logits_BV: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest, or all, and their ids, the largest first; of equal ones the first ids come first."""
    if count >= logits_BV.shape[1]:
        return logits_BV.sort(dim=-1, descending=True, stable=True)
    values, ids = logits_BV.topk(count + 1)
    for row in (values[:, count - 1] == values[:, count]).nonzero()[:, 0].tolist():  # which of them is left to chance
        last, above = values[row, count], int((values[row] > values[row, count]).sum())
        ids[row, above:count] = (logits_BV[row] == last).nonzero()[: count - above, 0]
    ids = ids[:, :count].sort(dim=-1).values
    values, order = logits_BV.gather(-1, ids).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(-1, order)


def drawn(weights_BN: Tensor, draws_B: Tensor) -> tuple[Tensor, Tensor]:
    """Where draws of [0, 1) fall when weights lie one after another, summed in fp64: never on a weight of 0 [B]; and
    whether that is known, which it is not among NaN [B].
    """
    count = weights_BN.shape[1]
    blocks, rest = count // _BLOCK, weights_BN[:, count // _BLOCK * _BLOCK :]
    whole = torch.unflatten(weights_BN[:, : blocks * _BLOCK], -1, (blocks, _BLOCK))
    sums = torch.cat([part.sum(-1, dtype=torch.float64) for part in (whole, rest[:, None])], 1).cumsum(-1)
    targets = draws_B * sums[:, -1]
    block = _first_above(sums, targets)[:, None]
    places = block * _BLOCK + torch.arange(_BLOCK)
    within = weights_BN.gather(-1, places.clamp(max=count - 1)).double().masked_fill(places >= count, 0).cumsum(-1)
    before = F.pad(sums, (1, 0)).gather(-1, block)[:, 0]
    place = block[:, 0] * _BLOCK + _first_above(within, targets - before)
    return place.clamp(max=count - 1), ~sums[:, -1].isnan()


def _first_above(cumulative_BN: Tensor, targets_B: Tensor) -> Tensor:
    """The first place whose sum is above the target [B]; that of the last weight where rounding leaves none."""
    last = torch.searchsorted(cumulative_BN, cumulative_BN[:, -1:].contiguous()).clamp(max=cumulative_BN.shape[1] - 1)
    return torch.minimum(torch.searchsorted(cumulative_BN, targets_B[:, None], right=True), last)[:, 0]


def _softmax(logits_BN: Tensor, temperature: float, room_2BN: Tensor | None = None) -> Tensor:
    below, out = (None, None) if room_2BN is None else room_2BN.unbind()
    # The largest becomes 0, and so stays a number however small the temperature is.
    below = torch.sub(logits_BN, logits_BN.amax(-1, keepdim=True), out=below)
    return torch.softmax(below.div_(max(temperature, torch.finfo(torch.float32).tiny)), -1, out=out)


def _nucleus(probabilities_BN: Tensor, top_p: float) -> Tensor:
    """Those that come first, without what lies beyond `top_p` together."""
    before = probabilities_BN.cumsum(-1) - probabilities_BN
    return probabilities_BN.masked_fill(before >= top_p, 0.0)  # the first always stays: nothing is before it
