"""From logits to the next token: temperature, top-k, top-p, and a draw that depends on (seed, sample, position)
alone.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tilth.core.random import derive_seed
from tilth.generate.config import SamplingConfig


class Sampler:
    """Draws tokens for `samples` sequences; each has a stream of its own, so that sample 3 is the same alone or among
    ten.
    """

    def __init__(self, config: SamplingConfig, samples: int) -> None:
        self.config = config
        self._streams = [
            np.random.Generator(np.random.PCG64(derive_seed(config.seed, "generate", i))) for i in range(samples)
        ]

    def __call__(self, logits_BV: Tensor) -> Tensor:
        """The next token of each sequence, int64 [B]."""
        if self.config.temperature == 0:
            return logits_BV.argmax(-1)
        probabilities, ids = candidates(logits_BV.float(), self.config)
        draws = torch.tensor([stream.random() for stream in self._streams], dtype=torch.float64)
        cumulative = probabilities.cpu().double().cumsum(-1)
        chosen = torch.searchsorted(cumulative, (draws * cumulative[:, -1])[:, None], right=True)
        return ids.gather(-1, chosen.clamp(max=ids.shape[-1] - 1).to(ids.device))[:, 0]


def candidates(logits_BV: Tensor, config: SamplingConfig) -> tuple[Tensor, Tensor]:
    """Probabilities and ids [B, n] of the tokens that may be drawn, likeliest first, after temperature, top-k, then
    top-p.
    """
    values, ids = logits_BV.sort(dim=-1, descending=True, stable=True)
    # The largest becomes 0, and so stays a number however small the temperature is.
    values = (values - values[:, :1]) / max(config.temperature, torch.finfo(torch.float32).tiny)
    if config.top_k is not None:
        values, ids = values[:, : config.top_k], ids[:, : config.top_k]
    probabilities = values.softmax(-1)
    if config.top_p is not None and config.top_p < 1:  # rounding must not make `all` mean `nearly all`
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(
            before >= config.top_p, 0.0
        )  # the first always stays: nothing is before it
    return probabilities, ids
