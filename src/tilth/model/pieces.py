"""How many logits are made at a time, in training and in evaluation: those of a large vocabulary by far the largest
tensor, they are never held whole.

    held_logits(device)                  of one product
    product_rows(held, vocabulary)       the rows of it
    passed_rows(rows, vocabulary, device)   those of its rows that are gone over at a time
"""

from __future__ import annotations

import torch

PIECE = 1 << 21
"""Logits that are gone over at a time (8 MiB in fp32): they stay in the processor's cache. Measured on 2 cores at 2,048
tokens, 128 wide, 4,096 ids, loss and gradient: 22 ms, whole 56 ms.
"""

LARGE_PIECE = 1 << 28
"""The same on CUDA, where no cache is to be kept and each piece costs a pass over the output matrix and its gradient
(512 MiB in bf16). Measured on an H200 at 65,536 tokens, 768 wide, 50,304 ids, loss and gradient in bf16: 2^26 36.1 ms,
2^27 32.8, 2^28 31.3, 2^29 30.6."""

ROWS = 256
"""Rows of a product at least, however large the vocabulary: the output matrix is read anew for each. Measured on two
threads of an AMD EPYC at 1,024 tokens, 768 wide, 50,257 ids, loss and gradient: in fp32 1.38 s with 128 rows, 1.24 s
with 256, 1.19 s with 512; in bf16 0.54, 0.48, 0.50 s.
"""


def held_logits(device: torch.device) -> int:
    """Logits that are held at a time: on CUDA, in fp32, at most a 32nd of the device's memory."""
    if device.type != "cuda":
        return PIECE
    return min(LARGE_PIECE, torch.cuda.get_device_properties(device).total_memory // 128)


def product_rows(held: int, vocabulary: int) -> int:
    """Rows of a product of which about `held` logits are held."""
    return max(ROWS, held // vocabulary)


def passed_rows(rows: int, vocabulary: int, device: torch.device) -> int:
    """A product wants many rows; what goes over its scores, few: on a CPU they are then still in the cache."""
    return max(1, PIECE // vocabulary) if device.type == "cpu" else rows
