"""Attention in chunks is attention: outputs and gradients of the formula, in fp64, whatever the mask."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from tilth.model.attention import document_mask, reference_attention, window_mask
from tilth.model.chunks import CHUNK, attend_in_chunks, key_spans

LENGTHS = {
    "short": [[40] * 10, [30, 90, 70, 1, 1, 208]],
    "long": [[400], [399, 1]],
    "mixed": [[300, 100], [20] * 20],
}


def ids(lengths: list[list[int]]) -> torch.Tensor:
    rows = [torch.repeat_interleave(torch.arange(len(own)), torch.tensor(own)) for own in lengths]
    return torch.stack(rows)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("name", LENGTHS)
def test_chunks_give_the_formula_and_its_gradients(
    name: str, kv_heads: int, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    doc_ids = ids(LENGTHS[name])
    mask = document_mask(doc_ids) if causal else (doc_ids[:, :, None] == doc_ids[:, None, :])[:, None]
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, heads, 400, 8) for heads in (4, kv_heads, kv_heads)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    results = []
    for function in (attend_in_chunks, reference_attention):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        out = function(*leaves, mask)
        out.square().sum().backward()
        results.append([out, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-10)
    calls = list[int]()
    kernel = F.scaled_dot_product_attention

    def counted(q: torch.Tensor, k: torch.Tensor, *rest: object, **options: object) -> torch.Tensor:
        calls.append(q.shape[2] * k.shape[2])
        return kernel(q, k, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    attend_in_chunks(*tensors, mask)
    if name == "short":
        assert sum(calls) < 0.6 * 2 * 400 * 400 and len(calls) == 2 * -(-400 // CHUNK)
    if name == "long" and not causal:
        assert len(calls) == 1, "nothing to gain"


def test_one_window_for_all_rows_gives_the_formula_and_rows_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = window_mask(None, 400, 400, 100, torch.device("cpu"))
    assert mask is not None and on_paper_spans(400, 100) == key_spans(mask), "known without the values"
    tensors = [torch.randn(3, heads, 400, 8, dtype=torch.float64) for heads in (4, 2, 2)]
    expected, kernel, calls = reference_attention(*tensors, mask), F.scaled_dot_product_attention, list[int]()

    def counted(q: torch.Tensor, *rest: object, **options: object) -> torch.Tensor:
        calls.append(len(q))
        return kernel(q, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    assert torch.allclose(attend_in_chunks(*tensors, mask[None, None]), expected, rtol=0, atol=1e-10)
    assert calls == [3] * -(-400 // CHUNK)


def on_paper_spans(length: int, window: int) -> list[tuple[int, int]]:
    with FakeTensorMode():
        return key_spans(torch.ones(length, length, dtype=torch.bool), window)


def test_spans_hold_all_that_a_chunk_sees() -> None:
    mask = document_mask(ids([[100, 156]]))[0, 0]
    assert key_spans(mask) == [(0, 128), (100, 256)]
    assert key_spans(torch.zeros(200, 200, dtype=torch.bool)) == [(0, 200), (0, 200)], "a query that sees nothing"
