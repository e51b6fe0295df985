"""The kernels for models in bfloat16 beside products and attention of torch in fp64, and whole models beside fp32."""

from __future__ import annotations

import math
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tests.generate.helpers import rounded, rounding
from tests.generate.test_decode import DECODERS, at_once, one_by_one
from tests.model.families import make, save, some_ids
from tilth.checkpoint.hf_weights import load_checkpoint
from tilth.generate import native
from tilth.generate.decode import Decoder, reader_of

FIRST = 3


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def kernels() -> native.Kernels:
    found = native.kernels()
    assert found is not None, native.why_not()
    return found


class Library(NamedTuple):
    kernels: native.Kernels
    rounds: bool
    """What weights are multiplied with."""


@pytest.fixture(scope="module", params=[None, "-mno-avx512bf16", "-mno-avx512f"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Compiled for this processor, without products of bfloat16, and with half as wide registers."""
    if request.param is None:
        return Library(kernels(), rounding())
    if platform.machine() != "x86_64":
        pytest.skip("AVX-512 is of x86-64")
    path = tmp_path_factory.mktemp("narrow") / "kernels.so"
    subprocess.run(["g++", *native._FLAGS, request.param, str(native._SOURCE), "-o", str(path)], check=True)
    return Library(native.Kernels(path), rounds=False)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 15, 37])
@pytest.mark.parametrize("inputs", [16, 7, 67])
def test_products_of_several_weights(library: Library, rows: int, inputs: int, threads: None) -> None:
    outs = (13, 1, 4096 // inputs)
    weights: list[Tensor] = [numbers(o, inputs, seed=o).bfloat16() for o in outs]
    biases = [numbers(outs[0]), None, numbers(outs[2])]
    x, wide = numbers(rows, inputs, seed=9), torch.full((rows, sum(outs) + 5), math.nan)
    places = torch.split(wide[:, 5:], [*outs], 1)
    write = library.kernels.products(list(zip(weights, biases, strict=True)), places)
    torch.set_num_threads(1)
    write(x)
    once, read = wide.clone(), rounded(x.double()) if library.rounds else x.double()
    for weight, bias, place in zip(weights, biases, places, strict=True):
        wanted = read @ weight.double().t() + (0 if bias is None else bias.double())
        torch.testing.assert_close(place.double(), wanted, atol=2e-5, rtol=1e-5)
    assert wide[:, :5].isnan().all(), "something beside its place was written"
    torch.set_num_threads(2)
    write(x)
    assert torch.equal(wide.nan_to_num(), once.nan_to_num()), "another number of threads gives other bits"


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2)])
@pytest.mark.parametrize("width", [64, 16, 20])
@pytest.mark.parametrize("cap", [None, 3.0])
def test_attention(library: Library, heads: int, kv_heads: int, width: int, cap: float | None) -> None:
    batch, scale = 3, 0.7
    cache = numbers(2, batch, kv_heads, 300, width).bfloat16()
    queries = 4 * numbers(batch, heads + 3, width, seed=1)[:, :heads]
    attend = library.kernels.attention(queries, kv_heads, scale, cap)
    for first, last in ((0, 1), (0, 17), (30, 300)):
        keys, values = cache[0, :, :, first:last], cache[1, :, :, first:last]
        grouped = queries.double().view(batch, kv_heads, -1, width)
        scores = scale * grouped @ keys.double().transpose(-1, -2)
        scores = scores if cap is None else cap * (scores / cap).tanh()
        wanted = (scores.softmax(-1) @ values.double()).view(batch, -1)
        torch.testing.assert_close(attend(keys, values).double(), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
def test_families_lose_less_than_by_torch_in_bfloat16(name: str, tmp_path: Path) -> None:
    folder = save(make(name).bfloat16(), tmp_path)
    exact, half = load_checkpoint(folder).model.eval(), load_checkpoint(folder, dtype=torch.bfloat16).model.eval()
    assert all(torch.equal(p.float(), q) for p, q in zip(half.parameters(), exact.parameters(), strict=True))
    ids, read = some_ids(2), reader_of(half, 2)
    assert isinstance(read, Decoder)
    wanted, theirs = at_once(exact, ids, FIRST), at_once(half, ids, FIRST).float()
    ours = one_by_one(read, half, ids, FIRST)  # the first tokens are read by the model itself
    lost, by_torch = ((given - wanted)[:, 1:].square().mean().sqrt() for given in (ours, theirs))
    assert lost < by_torch < 0.1 * wanted.std()


def test_without_a_compiler_the_model_itself_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    half = load_checkpoint(save(make("llama"), tmp_path), dtype=torch.bfloat16).model.eval()
    native._made.cache_clear()
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    try:
        read = reader_of(half, 1)
        assert not isinstance(read, Decoder) and "no C++ compiler" in native.why_not()
        ids = some_ids(1)
        whole, read_on = at_once(half, ids, FIRST).float(), one_by_one(read, half, ids, FIRST).float()
        assert (read_on - whole).square().mean().sqrt() < 0.05 * whole.std()
    finally:
        native._made.cache_clear()
