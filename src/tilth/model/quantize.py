"""Matrices in four bits a number: NF4 with double quantisation (QLoRA, Dettmers et al. 2023), on any device.

    NF4(matrix)                    the codes and the scales of its blocks
    NF4.pieces(dtype)              the matrix again, some rows at a time: it is never whole in memory
    nf4_bytes(numbers, …)          what it takes

A block of 64 numbers is divided by its largest magnitude and rounded to the nearest of 16 values. These are quantiles
of a normal distribution (section 3): each code is used about equally often where weights are normal. Double
quantisation holds the magnitudes, less their mean, in eight bits: in blocks of 256, by a table that is fine near zero
(dynamic tree quantisation, Dettmers 2015). Codes, tables and sums are those of bitsandbytes: its values come out.
Shapes in names: O out_features, I in_features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tilth.core.errors import CheckpointError

BLOCK = 64
SCALE_BLOCK = 256
PIECE = 1 << 22
"""Numbers that are unpacked at a time: 16 MiB in fp32."""

# QLoRA, appendix E: the table as published.
NF4_VALUES = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


def dynamic_table() -> Tensor:
    """The 256 values of signed eight-bit dynamic tree quantisation [256], ascending.

    With k leading zeros 6 - k bits are left for a linear fraction in 0.1 .. 1, of which the midpoints count, times
    10**-k. Zero and 1 are added.
    """
    positive = []
    for zeros in range(7):
        edges = torch.linspace(0.1, 1, 2 ** (6 - zeros) + 1, dtype=torch.float32)
        positive.append(10**-zeros * ((edges[:-1] + edges[1:]) / 2))
    values = torch.cat(positive)
    return torch.cat([-values, values, torch.tensor([0.0, 1.0])]).sort().values


class NF4(nn.Module):
    """A frozen matrix [O, I] in about half a byte a number: codes, two in a byte, and a scale for each 64 of them."""

    def __init__(self, matrix_OI: Tensor, double_quantize: bool = True, name: str = "the matrix") -> None:
        """CheckpointError when a number of the matrix, which `name` names, is not finite."""
        super().__init__()
        self.shape, self.dtype = (matrix_OI.shape[0], matrix_OI.shape[1]), matrix_OI.dtype
        self.double_quantize = double_quantize
        codes, scales = _quantize(matrix_OI)
        if not bool(torch.isfinite(scales).all()):
            raise CheckpointError(
                f"{name} holds numbers that are not finite: it cannot be quantized", "use another base checkpoint"
            )
        self.register_buffer("codes", codes)
        table = torch.tensor(NF4_VALUES, device=codes.device)
        byte = torch.arange(256, device=codes.device)
        # Both numbers of a byte are looked up at once, as the eight bytes that they take: 2 ms instead of 8 for
        # 2.4 million numbers.
        pairs = torch.stack([table[byte >> 4], table[byte & 15]], 1).view(torch.int64).view(256)
        self.register_buffer("pairs", pairs, persistent=False)
        if double_quantize:
            self._quantize_scales(scales)
        else:
            self.register_buffer("scales", scales)

    def _quantize_scales(self, scales: Tensor) -> None:
        table, mean = dynamic_table().to(scales.device), scales.mean()
        blocks = _in_blocks(scales - mean, SCALE_BLOCK)
        largest = blocks.abs().amax(1)
        codes = torch.bucketize(_relative(blocks, largest), _midpoints(table)).to(torch.uint8)
        self.register_buffer("scale_codes", codes.flatten()[: len(scales)].clone())
        self.register_buffer("scale_scales", largest)
        self.register_buffer("scale_mean", mean)
        self.register_buffer("scale_table", table, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the codes lie."""
        return self.get_buffer("codes").device

    def block_scales(self) -> Tensor:
        """The largest magnitude of each block, fp32 [blocks], as far as it is still known."""
        if not self.double_quantize:
            return self.get_buffer("scales")
        values = self.get_buffer("scale_table").index_select(0, self.get_buffer("scale_codes").int())
        spread = self.get_buffer("scale_scales").repeat_interleave(SCALE_BLOCK)[: len(values)]
        return values * spread + self.get_buffer("scale_mean")

    def pieces(self, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
        """(first row, some rows [o, I]) until all rows came; a piece begins with a block."""
        rows, width = self.shape
        together = BLOCK // math.gcd(width, BLOCK)
        step = max(together, PIECE // width // together * together)
        scales, codes, pairs = self.block_scales(), self.get_buffer("codes"), self.get_buffer("pairs")
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            first, last = start * width // BLOCK, -(-stop * width // BLOCK)
            found = pairs.index_select(0, codes[first * BLOCK // 2 : last * BLOCK // 2].int()).view(torch.float32)
            values = found.view(-1, BLOCK).mul_(scales[first:last, None]).flatten()
            yield start, values[: (stop - start) * width].view(stop - start, width).to(dtype)

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """The whole matrix [O, I]."""
        return torch.cat([rows for _, rows in self.pieces(dtype)])


def is_quantized(model: nn.Module) -> bool:
    """Whether a matrix of `model` is held in four bits."""
    return any(isinstance(module, NF4) for module in model.modules())


def nf4_bytes(numbers: int, double_quantize: bool = True) -> int:
    """Bytes of a matrix of so many numbers as `NF4` holds it, its tables with it."""
    blocks = -(-numbers // BLOCK)
    scales = 4 * blocks if not double_quantize else blocks + 4 * -(-blocks // SCALE_BLOCK) + 4 + 4 * 256
    return blocks * BLOCK // 2 + scales + 8 * 256


def _quantize(matrix_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Two codes in a byte, uint8 [blocks * 32], and the scale of each block, fp32; a part of the matrix at a time."""
    bounds = _midpoints(torch.tensor(NF4_VALUES, device=matrix_OI.device))
    flat, codes, scales = matrix_OI.detach().reshape(-1), [], []
    for part in torch.split(flat, PIECE):  # a multiple of the block
        blocks = _in_blocks(part.float(), BLOCK)
        scales.append(blocks.abs().amax(1))
        numbers = torch.bucketize(_relative(blocks, scales[-1]), bounds, out_int32=True).to(torch.uint8).view(-1, 2)
        codes.append((numbers[:, 0] << 4) | numbers[:, 1])
    return torch.cat(codes), torch.cat(scales)


def _in_blocks(values: Tensor, size: int) -> Tensor:
    """[blocks, size], the last one filled up with zeros."""
    return nn.functional.pad(values, (0, -len(values) % size)).view(-1, size)


def _relative(blocks: Tensor, largest: Tensor) -> Tensor:
    # The product with the reciprocal, not the quotient, as bitsandbytes has it: they differ in the last bit.
    return (blocks * (1.0 / largest.clamp(min=1e-38))[:, None]).clamp_(-1, 1)


def _midpoints(table: Tensor) -> Tensor:
    return (table[:-1] + table[1:]) / 2
