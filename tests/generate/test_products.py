"""Products of a few rows, whichever way the processor takes: the numbers of the layer itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.generate.helpers import random_model
from tests.generate.test_decode import assert_same
from tests.model.families import LENGTH
from tilth.generate import products
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import apply_adapter, lora_layers
from tilth.model.layers import Linear
from tilth.model.lora import LoraLinear


@pytest.fixture(params=["AuthenticAMD", "GenuineIntel", ""])
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of the processor: the way is its maker's."""
    products._better_in_pieces.cache_clear()
    monkeypatch.setattr(products, "processor_vendor", lambda: request.param)
    monkeypatch.setattr(products, "_WORTH_IT", 0)
    request.addfinalizer(products._better_in_pieces.cache_clear)
    return str(request.param)


def layer(width: int, out: int, *, bias: bool) -> Linear:
    torch.manual_seed(out)
    made = Linear(width, out, bias=bias)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made.requires_grad_(False)


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 16, 64, 65])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("out", [96, 98, 97])
def test_the_numbers_are_those_of_the_layer(maker: str, rows: int, bias: bool, out: int) -> None:
    made, x = layer(40, out, bias=bias), torch.randn(rows, 40)
    whole = torch.zeros(rows, out + 7)
    place = whole[:, 3 : 3 + out]
    change, write = products.product(made, rows), products.into([made], [place])
    for factor in (1.0, 0.5):  # the weight is read where it lies
        made.weight.mul_(factor)
        torch.testing.assert_close(change(x), made(x), atol=1e-5, rtol=1e-5)
        write(x)
        torch.testing.assert_close(place, made(x), atol=1e-5, rtol=1e-5)
    assert not whole[:, :3].any() and not whole[:, 3 + out :].any()
    pieces = products._in_pieces(made.weight, made.bias, rows)
    assert (pieces is None) == (maker != "AuthenticAMD" or rows == 65)


def _in_four_bits(layer: LoraLinear) -> LoraLinear:
    layer.quantize(True, "it")
    return layer


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_a_decoder_of_such_products(maker: str, rows: int) -> None:
    assert_same(random_model(LENGTH, 97, 3.0, bias=True), rows=rows)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_with_an_adapter(maker: str, dora: bool, bias: bool) -> None:
    model = random_model(bias=bias)
    apply_adapter(model, AdapterConfig(rank=2, dora=dora), seed=1)
    one = next(iter(lora_layers(model.eval()).values()))
    x, place = torch.randn(3, one.in_features), torch.zeros(3, one.out_features + 4)
    with torch.no_grad():
        before = one(x)
        nn.init.normal_(one.adapters["default"].get_parameter("lora_B"), std=0.1)
        assert (one(x) - before).abs().max() > 0.1
        torch.testing.assert_close(products.product(one, 3)(x), one(x), atol=1e-5, rtol=1e-5)
        products.into([one], [place[:, 4:]])(x)
        torch.testing.assert_close(place[:, 4:], one(x), atol=1e-5, rtol=1e-5)
        one.chosen = None
        torch.testing.assert_close(products.product(one, 3)(x), before, atol=1e-5, rtol=1e-5)
    assert products.product(quantized := _in_four_bits(one), 3) is quantized


def test_small_weights_go_the_plain_way(maker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_WORTH_IT", 1 << 17)
    assert products._in_pieces(torch.ones(64, 64), None, 1) is None
    assert (products._in_pieces(torch.ones(512, 512), None, 1) is None) == (maker != "AuthenticAMD")
