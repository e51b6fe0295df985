"""Dropout by rows: as often as it says, independent, the same for any cut; elsewhere torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tilth.model.dropout import Dropout, drawing, name_sites

ROWS, WIDTH = 8, 50_000


def ones() -> Tensor:
    return torch.ones(ROWS, WIDTH)


def drawn(p: float = 0.3, site: str = "a", seed: int = 1, first_row: int = 0, x: Tensor | None = None) -> Tensor:
    x = ones() if x is None else x
    with drawing(seed, first_row, len(x)):
        out: Tensor = Dropout(p, site)(x)
    return out


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_as_many_are_dropped_as_it_says_and_the_mean_stays(p: float) -> None:
    out = drawn(p)
    deviation = math.sqrt(p * (1 - p) / out.numel())
    assert abs(float((out == 0).float().mean()) - p) < 4 * deviation
    assert sorted(out.unique().tolist()) == [0.0, pytest.approx(1 / (1 - p), rel=1e-4)]


def test_next_to_all_may_go() -> None:
    out = drawn(p=0.9999999)
    assert out.isfinite().all() and 0 < int((out != 0).sum()) < 40  # 6 of 400,000 are to stay


def test_rows_sites_seeds_and_neighbours_are_independent() -> None:
    first = (drawn() == 0).float()
    others = [
        (drawn(site="b") == 0).float(),
        (drawn(seed=2) == 0).float(),
        first.roll(1, 0),  # another row
        *(first.roll(shift, 1) for shift in (1, 2, 3, 4)),  # elements of one draw, and of the next
    ]
    noise = 5 / math.sqrt(first.numel())
    for other in others:
        assert abs(float(torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1])) < noise


def test_a_row_has_its_draws_wherever_it_stands() -> None:
    odd = torch.ones(ROWS, 7, 3)  # 21 elements: no multiple of the four of a draw
    for x in (ones(), odd):
        whole = drawn(x=x)
        assert torch.equal(torch.cat([drawn(x=x[n : n + 1], first_row=n) for n in range(ROWS)]), whole)
        assert torch.equal(drawn(x=x[3:], first_row=3), whole[3:])
        assert not torch.equal(drawn(x=x[3:]), whole[3:])
    with drawing(1, 0, ROWS):  # tokens of all rows in one dimension, as adapters see them
        assert torch.equal(Dropout(0.3, "a")(odd.flatten(0, 1)), drawn(x=odd).flatten(0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_gradient_goes_where_the_value_went(dtype: torch.dtype) -> None:
    x = torch.randn(ROWS, 64, dtype=dtype, requires_grad=True)
    out = drawn(x=x)
    assert out.dtype == dtype
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    torch.testing.assert_close(
        x.grad * x.detach(), out.detach(), rtol=0.01 if dtype == torch.bfloat16 else 1e-6, atol=0
    )


def test_without_draws_it_is_torchs() -> None:
    x, module = torch.randn(4, 9), Dropout(0.3, "a")
    torch.manual_seed(3)
    mine = module(x)
    torch.manual_seed(3)
    assert torch.equal(mine, nn.functional.dropout(x, 0.3))
    assert module.eval()(x) is x and Dropout(0.0)(x) is x


def test_what_is_not_of_the_rows_in_equal_parts_torch_draws() -> None:
    """An adapter sees such where a class of transformers' projects positions."""
    torch.manual_seed(3)
    with drawing(1, 0, 3):
        mine = Dropout(0.3, "a")(torch.ones(8, 5))
    torch.manual_seed(3)
    assert torch.equal(mine, nn.functional.dropout(torch.ones(8, 5), 0.3))


def test_no_generator_of_torch_is_touched_and_nothing_is_left_behind() -> None:
    before = torch.random.get_rng_state()
    drawn()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(3)
    assert not torch.equal(Dropout(0.3, "a")(ones()), drawn(seed=3)), "outside of `drawing`, torch draws again"


def test_every_place_has_a_name_of_its_own() -> None:
    model = nn.Sequential(Dropout(0.1), nn.ModuleDict({"inner": Dropout(0.1)}))
    name_sites(model)
    assert [module.site for module in model.modules() if isinstance(module, Dropout)] == ["0", "1.inner"]
