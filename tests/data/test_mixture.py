"""The arithmetic of a mixture: shares that add up to one, or an error that shows why there are none."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth.core.config import parse
from tilth.core.errors import DataError, RecipeError
from tilth.data.batches.mixture import REST, MixtureEntry, MixturePlan, plan_mixture, whole_shares
from tilth.data.config import DataConfig

HELD = {"web": 8_000_000, "code": 1_000_000, "books-a": 300_000, "books-b": 200_000}


def plan(mixture: dict[str, Any], held: dict[str, int] | None = None, **options: Any) -> MixturePlan:
    entries = {name: parse(MixtureEntry, entry) for name, entry in mixture.items()}
    return plan_mixture(entries, held or HELD, options.pop("context_length", 512), **options)


def shares(made: MixturePlan) -> dict[str, float]:
    return {one.name: float(one.share) for one in made.components}


def config(mixture: Any) -> DataConfig:
    sources = [{"path": "texts", "name": name} for name in HELD]
    return parse(DataConfig, {"sources": sources, "mixture": mixture}, "data")


def test_sources_without_an_entry_share_the_rest_by_size() -> None:
    made = plan({"code": {"weight": 0.3}})
    assert shares(made) == {"code": 0.3, REST: 0.7}
    rest = made.components[1]
    assert rest.sources == ("web", "books-a", "books-b") and rest.tokens == 8_500_000
    assert made.epoch_tokens == -(-8_500_000 * 10 // 7), "an epoch shows these once"


def test_a_glob_is_one_ring_and_an_exact_name_comes_first() -> None:
    books = {"weight": 0.05}
    made = plan({"books-*": books, "books-a": books, "web": {"weight": 0.9}, "code": {"weight": 0}})
    assert {one.name: one.sources for one in made.components} == {
        "books-*": ("books-b",),
        "books-a": ("books-a",),
        "web": ("web",),
    }
    assert made.epoch_tokens == 8_500_000, "where all shares are weights: what the sources hold"


def test_budgets_are_of_an_epoch_of_the_mixture_or_of_a_run_whose_length_is_given() -> None:
    budgets = {"code": {"tokens": 2_000_000, "max_epochs": 6}, "books-*": {"epochs": 2}, "web": {"weight": 0.4}}
    made = plan(budgets)
    assert made.epoch_tokens == 5_000_000 and shares(made) == {"code": 0.4, "books-*": 0.2, "web": 0.4}
    assert shares(plan(budgets, epochs=3.0)) == shares(made), "each of the three"
    del budgets["web"]
    made = plan(budgets, run_tokens=10_000_000)
    assert shares(made) == {"code": 0.2, "books-*": 0.1, REST: 0.7}, "the rest of the run is from the others"
    assert made.epoch_tokens == 11_000_000


def test_weights_that_are_nearly_one_are_one() -> None:
    made = plan({name: {"weight": 0.3333, "max_epochs": None} for name in ("web", "code", "books-*")})
    assert {one.share for one in made.components} == {Fraction(1, 3)}


@pytest.mark.parametrize(
    ("mixture", "options", "said"),
    [
        ({"code": {"weight": 0.5}, "*": {"weight": 0.4}}, {}, r"are 0\.5 \+ 0\.4 = 0\.9, and no other source"),
        ({"code": {"weight": 1}}, {}, "the weights are 1 = 1, which leaves nothing for the other sources"),
        ({"code": {"weight": 1}, "*": {"tokens": 9}}, {}, "which leaves nothing for \\*"),
        (
            {"code": {"tokens": 3_000_000}, "web": {"epochs": 1}},
            {"run_tokens": 9_000_000},
            r"3,000,000 \(code\) \+ 8,000,000 \(web\) = 11,000,000 tokens; a run of 9,000,000 tokens has 9,000,000",
        ),
        (
            {"code": {"tokens": 3_000_000}, "*": {"epochs": 1}},
            {"run_tokens": 20_000_000},
            r"= 11,500,000 tokens; a run of 20,000,000 tokens has 20,000,000 for them, and no other source",
        ),
        (
            {"code": {"tokens": 3_000_000}, "web": {"weight": 0.5}},
            {"run_tokens": 6_000_000},
            "of which weights take 3,000,000, has 3,000,000 for them, and the other sources must have some too",
        ),
        ({"code": {"tokens": 5_000_000}}, {}, r"from code, which has 1,000,000: 5\.00 epochs, and max_epochs is 4"),
        ({"code": {"weight": 0.9}}, {"run_tokens": 10**7}, r"9,000,000 tokens of the run are from code.*9\.00 epochs"),
        ({"code": {"weight": 0.9}}, {"context_length": 10**6}, "code has 1,000,000 tokens .* needs 1,000,001"),
        ({"code": {"weight": 0.9}}, {"held": {**HELD, "code": 0}}, "code has 0 tokens .* one sample needs 513"),
        ({"code": {"epochs": 2}}, {"held": {**HELD, "code": 0}}, "code has 0 tokens .* one sample needs 513"),
        ({"code": {"epochs": 3}, "*": {"weight": 0.5}}, {"held": {**HELD, "code": 0}}, "code hold no token"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_arithmetic(
    mixture: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        plan(mixture, **options)


@pytest.mark.parametrize(
    "beside", [{}, {"web": {"weight": 0.4}}, {"books-*": {"epochs": 3}}, {"web": {"tokens": 10**6}}]
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"epochs": 1.0},
        {"epochs": 3.0},
        {"run_tokens": 4 * 10**7},
        {"run_tokens": 9 * 10**6, "epochs": 1.0, "slack": 700},
        {"run_tokens": 9 * 10**6, "epochs": 3.0},
    ],
)
def test_a_budget_that_is_too_much_is_told_how_much_it_may_be(options: dict[str, Any], beside: dict[str, Any]) -> None:
    def asking(tokens: int) -> MixturePlan:
        return plan({"code": {"tokens": tokens}, **beside}, **options)

    with pytest.raises(DataError) as caught:
        asking(19_000_000)
    most = int(caught.value.remedy.partition("ask for ")[2].partition(" tokens")[0].replace(",", ""))
    assert asking(most)
    with pytest.raises(DataError, match="max_epochs is 4"):
        asking(most + 1)


def test_no_budget_is_told_where_none_would_do() -> None:
    with pytest.raises(DataError, match=r"5\.00 epochs, and max_epochs is 4") as caught:
        plan({"code": {"tokens": 5_000_000}, "*": {"weight": 0.5}}, run_tokens=10**7)
    assert caught.value.remedy == (
        "give code more text, ask for fewer tokens of it (`tokens:`), or raise its max_epochs"
    )


def test_more_epochs_are_had_for_the_asking() -> None:
    assert plan({"code": {"tokens": 5_000_000, "max_epochs": 5}})
    assert plan({"code": {"tokens": 50_000_000, "max_epochs": None}})
    assert plan({"code": {"epochs": 50}})


@pytest.mark.parametrize(
    ("mixture", "said"),
    [
        ({"wbe": {"weight": 0.5}}, "data: mixture: no source is called 'wbe'.*did you mean 'web'"),
        ({"zzz": {"weight": 0.5}}, "the sources are web, code, books-a, books-b"),
        ({"books*": {"weight": 0.1}, "*a": {"weight": 0.1}}, "'books\\*' and '\\*a' match the same source 'books-a'"),
        ({"web": {"weight": 0.8}, "code": {"weight": 0.4}}, r"more than all there is: 0\.8 \+ 0\.4 = 1\.2"),
        ({"web": {"weight": 0.8, "tokens": 5}}, "here: weight and tokens"),
        ({"web": {}}, "here: none of them"),
        ({"web": {"wieght": 1}}, "did you mean `weight`"),
        ({"web": {"weight": -0.1}}, "at least 0"),
        ({}, "it names no source"),
    ],
)
def test_a_recipe_that_cannot_be_meant(mixture: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){said}"):
        config(mixture)
    assert config(None).mixture is None and config({"*": {"weight": 1}}).mixture


@given(st.lists(st.fractions(min_value=Fraction(1, 10**6), max_value=1), min_size=1, max_size=9))
def test_whole_shares_are_in_proportion(values: list[Fraction]) -> None:
    whole = whole_shares(values)
    total, wanted = sum(whole), sum(values)
    assert 0 < total <= (1 << 31) + len(whole) and all(share > 0 for share in whole)
    for share, value in zip(whole, values, strict=True):
        assert abs(Fraction(share, total) - value / wanted) <= Fraction(len(values) + 1, 1 << 31)
    if total < 1 << 30:
        assert [Fraction(share, total) for share in whole] == [value / wanted for value in values]
