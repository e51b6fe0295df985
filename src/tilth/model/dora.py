"""The lengths that DoRA divides by (Liu et al. 2024, equation 5), without making the adapted matrix.

DoRA writes W' = m * (W + D) / |W + D|, row by row (their columns are our rows: we hold [out, in]), with D = s B A.
A row's squared length is |w|^2 + 2 w.d + |d|^2, and w.d = (W A')_k . b, so it takes one product of W with the K rows of
A, as much work as K more tokens. |W|^2 is computed once.
Shapes in names: O out_features, I in_features, K rank.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def magnitudes(pieces: Iterable[tuple[int, Tensor]]) -> Tensor:
    """Length of each row of a matrix [O] that comes in pieces of some rows."""
    return torch.cat([torch.linalg.vector_norm(rows, dim=1) for _, rows in pieces])


def row_norms(squares_O: Tensor, wa_OK: Tensor, a_KI: Tensor, b_OK: Tensor) -> Tensor:
    """Length of each row of W + B A [O], B scaled; a row of length 0 gets the smallest number that can be divided by.

    Args:
        squares_O: squared length of each row of W. wa_OK: W A'.
    """
    cross_O = (wa_OK * b_OK).sum(1)
    own_O = ((b_OK @ (a_KI @ a_KI.T)) * b_OK).sum(1)
    # Rounding can leave a sum that is zero in truth a little below it.
    squared = squares_O + 2 * cross_O + own_O
    return squared.clamp_(min=torch.finfo(squared.dtype).tiny).sqrt_()
