"""Attention in chunks of queries, each with only the keys that one of them may see.

With documents packed into a row most of a mask is false, and a kernel that is given the whole of it computes what is
then thrown away. Cut into chunks, row by row, many short documents cost little more than they would alone: on a CPU
thread 8 times less at 1,024 tokens of documents of 120 (fp32, forward and backward).

Shapes in names: B batch, T queries, S keys, H attention heads, K key/value heads, N head_dim.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from tilth.model.paper import on_paper

CHUNK = 128
"""Queries at a time: at 64 the calls cost more than they save, at 256 more keys are looked at in vain."""
WORTH = 0.75
"""Above this share of all pairs the kernel takes the whole at once."""


def key_spans(mask_TS: Tensor, window: int | None = None) -> list[tuple[int, int]]:
    """For each chunk of queries the first key that one of them sees, and the one after the last.

    Where numbers cannot be asked for those of one long document, with its window. Compiled that is so where there is
    one; the values of any other mask decide there too, and it cannot be compiled.

    Args:
        window: keys that a query sees at the most, itself among them: the mask has it already.
    """
    if on_paper(mask_TS) or (window is not None and torch.compiler.is_compiling()):
        queries, keys = mask_TS.shape
        reach = keys if window is None else window
        return [(max(0, first + 1 - reach), min(first + CHUNK, keys)) for first in range(0, queries, CHUNK)]
    spans = []
    for first in range(0, len(mask_TS), CHUNK):
        places = mask_TS[first : first + CHUNK].any(0).nonzero()
        spans.append((int(places[0]), int(places[-1]) + 1) if len(places) else (0, mask_TS.shape[1]))
    return spans


def attend_in_chunks(
    q_BHTN: Tensor,
    k_BKSN: Tensor,
    v_BKSN: Tensor,
    mask_BHTS: Tensor,
    scale: float | None = None,
    window: int | None = None,
) -> Tensor:
    """softmax(q k' scale) v where the mask is true, by torch's kernel; grouped heads where there are fewer of keys.

    Args:
        mask_BHTS: boolean, on the CPU: its values are looked at. B and H may be 1.
        window: that it has, as of `key_spans`.
    """
    grouped = q_BHTN.shape[1] != k_BKSN.shape[1]

    def kernel(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=grouped)

    rows = [key_spans(mask.any(0), window) for mask in mask_BHTS]
    looked_at = CHUNK * sum(high - low for spans in rows for low, high in spans) / len(rows)
    if looked_at > WORTH * q_BHTN.shape[2] * k_BKSN.shape[2]:
        return kernel(q_BHTN, k_BKSN, v_BKSN, mask_BHTS)
    # Cut once, and never sliced: the gradient of each slice is as large as what it was taken from.
    together = 1 if len(rows) > 1 else len(q_BHTN)  # with one mask for all rows they go at once
    out = []
    for row, (q, k, v) in enumerate(zip(*(torch.split(x, together) for x in (q_BHTN, k_BKSN, v_BKSN)), strict=True)):
        chunks, pieces = torch.split(q, CHUNK, dim=2), _Pieces(k, v, rows[row])
        parts = []
        for number, ((low, high), chunk) in enumerate(zip(rows[row], chunks, strict=True)):
            seen = mask_BHTS[row : row + 1, :, number * CHUNK : (number + 1) * CHUNK, low:high]
            parts.append(kernel(chunk, *pieces.between(low, high), seen))
        out.append(torch.cat(parts, dim=2))
    return torch.cat(out)


class _Pieces:
    """Keys and values cut wherever a span of keys begins or ends."""

    def __init__(self, k_BKSN: Tensor, v_BKSN: Tensor, spans: list[tuple[int, int]]) -> None:
        self.borders = sorted({0, k_BKSN.shape[2], *(border for span in spans for border in span)})
        sizes = [end - start for start, end in itertools.pairwise(self.borders)]
        self.cut = [torch.split(x, sizes, dim=2) for x in (k_BKSN, v_BKSN)]

    def between(self, low: int, high: int) -> tuple[Tensor, Tensor]:
        """Those of one span."""
        own = slice(self.borders.index(low), self.borders.index(high))
        k, v = (cut[own][0] if own.stop - own.start == 1 else torch.cat(cut[own], dim=2) for cut in self.cut)
        return k, v
