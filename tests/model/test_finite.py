"""Weights that are no numbers, told by their sum."""

from __future__ import annotations

import math

import pytest
import torch

from tilth.model.finite import is_finite


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("numbers", [[math.nan], [math.inf], [-math.inf], [math.inf, -math.inf]])
def test_one_number_among_many_is_found(dtype: torch.dtype, numbers: list[float]) -> None:
    weights = torch.ones(33, 65, dtype=dtype)
    assert is_finite(weights)
    weights[20, 7 : 7 + len(numbers)] = torch.tensor(numbers, dtype=dtype)
    assert not is_finite(weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_numbers_whose_sum_is_none_are_numbers(dtype: torch.dtype) -> None:
    assert is_finite(torch.full((4, 4), torch.finfo(dtype).max, dtype=dtype))


def test_whole_numbers_and_nothing_are_finite() -> None:
    assert is_finite(torch.arange(3)) and is_finite(torch.empty(0, 4))
