"""NF4 against its published definition and what bitsandbytes 0.50.2 made of the same matrix."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor

from tilth.core.errors import CheckpointError
from tilth.model import quantize
from tilth.model.lora import Frozen
from tilth.model.quantize import NF4, NF4_VALUES, dynamic_table


def ramp() -> Tensor:
    """[24, 64] of exact numbers, another scale in each row."""
    number = torch.arange(24 * 64)
    whole = ((number * number * 37 + number * 11) % 1009 - 504) * (1 + number // 64)
    return whole.float().view(24, 64) / 2**20


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)) * 0.02


def test_the_table_is_the_quantiles_of_the_paper() -> None:
    # QLoRA, section 3: 8 quantiles above zero, 7 below, zero itself; scaled so that the largest is 1.
    def quantiles(count: int) -> Tensor:
        return torch.special.ndtri(torch.linspace(0.9677083, 0.5, count, dtype=torch.float64)[:-1])

    values = torch.cat([-quantiles(8), torch.zeros(1, dtype=torch.float64), quantiles(9)]).sort().values
    torch.testing.assert_close(torch.tensor(NF4_VALUES, dtype=torch.float64), values / values.max(), atol=2e-7, rtol=0)


def test_the_table_of_scales_is_that_of_dynamic_trees() -> None:
    table = dynamic_table()
    assert len(table.unique()) == 256 and table[-1] == 1 and 0 in table
    finest = [0.1 + 0.9 * (part + 0.5) / 64 for part in range(64)]  # no zeros: six bits of fraction
    torch.testing.assert_close(table[-65:-1], torch.tensor(finest))
    assert float(table[table > 0].min()) == pytest.approx(0.55e-6)  # six zeros: one number, in the middle of 0.1 .. 1


def test_codes_and_values_are_those_of_bitsandbytes() -> None:
    single, both = NF4(ramp(), double_quantize=False), NF4(ramp())
    codes = "826092775af9938d8e57b73dc7718d86864355c1f0a491cba0efd863b8281e27"
    values = "9406fc0c51cc79c5687f7c80e4fdf943ddbcf1a07cd70d6f8277fd469d4820f9"
    for held in (single, both):
        assert hashlib.sha256(held.get_buffer("codes").numpy().tobytes()).hexdigest() == codes
    assert hashlib.sha256(single.matrix(torch.float32).numpy().tobytes()).hexdigest() == values
    scales = both.get_buffer("scale_codes").numpy().tobytes().hex()
    assert scales == "00060c12181f252b31373d55abc0c7cdd2dadfe6ecf1f9ff"
    assert float(both.get_buffer("scale_mean")) == pytest.approx(0.0059795379638671875, rel=1e-6)


@pytest.mark.parametrize("double_quantize", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_equal_those_of_an_installed_bitsandbytes(double_quantize: bool, dtype: torch.dtype) -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    matrix = noise(64, 128).to(dtype)
    codes, state = functional.quantize_4bit(matrix, quant_type="nf4", compress_statistics=double_quantize)
    assert torch.equal(NF4(matrix, double_quantize).matrix(dtype), functional.dequantize_4bit(codes, state))


@pytest.mark.parametrize("shape", [(64, 128), (33, 7), (5, 65), (1, 1)])
def test_each_number_becomes_the_nearest_of_its_block(shape: tuple[int, int]) -> None:
    matrix = noise(*shape)
    held = NF4(matrix, double_quantize=False)
    blocks = torch.nn.functional.pad(matrix.flatten(), (0, -matrix.numel() % 64)).view(-1, 64)
    choices = blocks.abs().amax(1)[:, None, None] * torch.tensor(NF4_VALUES)
    nearest = (blocks[:, :, None] - choices).abs().amin(2).flatten()[: matrix.numel()].view(shape)
    torch.testing.assert_close((held.matrix(torch.float32) - matrix).abs(), nearest, atol=1e-7, rtol=0)


def test_double_quantisation_costs_little_and_saves_what_it_says() -> None:
    matrix = noise(256, 256)
    single, both = NF4(matrix, double_quantize=False), NF4(matrix)
    errors = [(held.matrix(torch.float32) - matrix).square().mean().sqrt() for held in (single, both)]
    assert errors[1] < 1.02 * errors[0] and errors[0] < 0.1 * matrix.std()
    sizes = [sum(b.nbytes for b in held.state_dict().values()) * 8 / matrix.numel() for held in (single, both)]
    assert sizes[0] == 4.5 and sizes[1] == pytest.approx(4.127, abs=0.001)  # QLoRA, section 3: 0.127 bits for scales


@pytest.mark.parametrize("shape", [(50, 48), (9, 7), (30, 128)])
def test_pieces_make_the_whole_and_so_do_products(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, x = noise(*shape), noise(5, shape[1])
    held = NF4(matrix)
    whole = held.matrix(torch.float32)
    monkeypatch.setattr(quantize, "PIECE", 640)
    pieces = list(held.pieces(torch.float32))
    assert len(pieces) > 1 or shape == (9, 7)
    assert torch.equal(torch.cat([rows for _, rows in pieces]), whole)
    assert torch.equal(NF4(matrix).matrix(torch.float32), whole), "quantized in pieces"
    torch.testing.assert_close(Frozen(held).product(x, None), x @ whole.T)
    torch.testing.assert_close(Frozen(held).back(x @ whole.T), x @ whole.T @ whole)


def test_what_cannot_be_quantized_is_named() -> None:
    matrix = noise(4, 64)
    matrix[2, 5] = float("nan")
    with pytest.raises(CheckpointError, match=r"layers.3.mlp.up_proj holds numbers that are not finite"):
        NF4(matrix, name="layers.3.mlp.up_proj")


def test_zeros_stay_zeros() -> None:
    assert not NF4(torch.zeros(3, 64), double_quantize=False).matrix(torch.float32).any()
