"""How much of what training sees comes from which source: the `mixture:` of a recipe, and its arithmetic.

    MixtureEntry                 what a recipe says of a source, or of all that a glob matches
    check_names(mixture, names)  which sources each entry means
    check_alone(mixture, names)  an error for what no amount of text can make right
    plan_mixture(…)              shares that add up to one, or an error that shows why there are none

Shards are stored once and never copied. What an entry matches is a ring of its own (the shards of those sources, end
to end); the sources that no entry names are one ring together. Which ring a sample is from is in sampling.py.

An epoch of a mixture is as many tokens as its budgets and the sources without an entry say, each of the latter once;
where all shares are weights, as many as its sources hold. `train.epochs: n` is n of these. With `train.steps` or
`train.tokens` a budget is of the whole run, and sources without an entry take what is left.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import partial

from pydantic import Field, model_validator

from tilth.core.config import Config
from tilth.core.errors import DataError
from tilth.data.shards import TokenStream

REST = "the other sources"
_FINEST = 1 << 31
_NEARLY = Fraction(1, 1000)
"""Weights that fall short of one, or exceed it, by less than this were meant to be one."""


class MixtureEntry(Config):
    """How much of training is from a source: exactly one of `weight`, `tokens`, `epochs`."""

    weight: float | None = Field(default=None, ge=0)
    """The share of all tokens that training sees; 0 leaves the source out."""
    tokens: int | None = Field(default=None, ge=1)
    """So many tokens, in the whole run (with `train.epochs`: in each)."""
    epochs: float | None = Field(default=None, gt=0)
    """As many tokens as the source has, so many times."""
    max_epochs: float | None = Field(default=4.0, gt=0)
    """How often a source may be seen for the sake of its weight or tokens; null: any number of times. Up to four
    times, repeated text is about as good as new text (Muennighoff et al. 2023, arXiv:2305.16264)."""

    @model_validator(mode="after")
    def _one_way(self) -> MixtureEntry:
        given = [key for key in ("weight", "tokens", "epochs") if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"an entry has one of weight, tokens and epochs; here: {found} | keep exactly one")
        return self

    @property
    def share(self) -> Fraction | None:
        """The weight as it was written: 0.1 is a tenth, and ten of them are one."""
        return None if self.weight is None else Fraction(repr(self.weight))


Entries = Mapping[str, MixtureEntry]


def check_names(mixture: Entries, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The sources of each entry, in the order of `names`: the one that is called so, else those that the glob matches.

    Raises:
        ValueError: an entry that means no source, or two globs that mean the same one.
    """
    found: dict[str, list[str]] = {pattern: [] for pattern in mixture}
    for name in names:
        matching = [name] if name in mixture else [pattern for pattern in mixture if fnmatchcase(name, pattern)]
        if len(matching) > 1:
            both = " and ".join(map(repr, matching))
            raise ValueError(f"mixture: {both} match the same source {name!r} | name {name!r} itself as well")
        for pattern in matching:
            found[pattern].append(name)
    for pattern, sources in found.items():
        if not sources:
            close = difflib.get_close_matches(pattern, names, n=1, cutoff=0.5)
            known = f"did you mean {close[0]!r}?" if close else f"the sources are {', '.join(names)}"
            raise ValueError(f"mixture: no source is called {pattern!r} | {known}")
    return {pattern: tuple(sources) for pattern, sources in found.items()}


def check_weights(mixture: Entries) -> None:
    """ValueError when the weights are more than the whole."""
    weights = [entry.share for entry in mixture.values() if entry.share is not None]
    if weights and sum(weights) > 1 + _NEARLY:
        raise ValueError(f"mixture: the weights are more than all there is: {_sum(weights)} | make them add up to 1")


def _sum(weights: Iterable[Fraction]) -> str:
    weights = list(weights)
    return f"{' + '.join(f'{float(w):g}' for w in weights)} = {float(sum(weights)):g}"


def check_alone(
    mixture: Entries, names: Sequence[str], run_tokens: int | None = None, epochs: float | None = None, slack: int = 0
) -> None:
    """What the recipe alone says of a mixture, before there is a token; arguments as for `plan_mixture`.

    Raises:
        DataError: the weights, or they and the budgets in tokens, cannot be, however much text the sources hold.
    """
    named = {source for sources in check_names(mixture, names).values() for source in sources}
    rest = not named.issuperset(names)
    weights = {name: entry.share for name, entry in mixture.items() if entry.share is not None}
    budgets = {name: Fraction(entry.tokens) for name, entry in mixture.items() if entry.tokens is not None}
    left = _left(weights, [name for name in mixture if name not in weights], rest)
    if not budgets or run_tokens is None or epochs is not None:
        return
    asked, whole = sum(budgets.values(), Fraction(0)), len(weights) + len(budgets) == len(mixture)
    if whole or asked > run_tokens * left + slack:  # a budget in epochs comes on top
        _fitted(Fraction(run_tokens), weights, budgets, rest, slack, asked / left)


@dataclass(frozen=True, slots=True)
class Component:
    """One ring of a mixture.

    Attributes:
        name: the entry's, or `REST`.
        sources: whose shards are in it.
        tokens: that it holds.
        share: of what training sees.
        max_epochs: how often it may be seen; None: any number of times.
    """

    name: str
    sources: tuple[str, ...]
    tokens: int
    share: Fraction
    max_epochs: float | None = None


@dataclass(frozen=True, slots=True)
class MixturePlan:
    """Shares that add up to one, and how many tokens an epoch of the mixture is."""

    components: tuple[Component, ...]
    epoch_tokens: int


def plan_mixture(
    mixture: Entries,
    tokens: Mapping[str, int],
    context_length: int,
    run_tokens: int | None = None,
    epochs: float | None = None,
    slack: int = 0,
) -> MixturePlan:
    """The shares of a mixture.

    Args:
        tokens: how many tokens of the training split each source has.
        run_tokens: how many a run sees, where its steps or tokens are given.
        epochs: how many epochs of the mixture it lasts, where they are given.
        slack: tokens by which a run may be longer than was asked for, because it ends with a whole batch.

    Raises:
        DataError: there are no such shares; it shows the arithmetic.
    """
    plan, run = _shared(mixture, tokens, run_tokens, epochs, slack)

    def fits(name: str, budget: int) -> bool:
        asked = {**mixture, name: mixture[name].model_copy(update={"tokens": budget})}
        try:
            other, its_run = _shared(asked, tokens, run_tokens, epochs, slack)
        except DataError:
            return False
        one = next(one for one in other.components if one.name == name)
        return not _too_often(one, _seen(one, other, its_run), slack)

    _check(plan, mixture, context_length, run, slack, fits)
    return plan


def _shared(
    mixture: Entries, tokens: Mapping[str, int], run_tokens: int | None, epochs: float | None, slack: int
) -> tuple[MixturePlan, Fraction | None]:
    """The shares, and how many tokens the run sees where that is known; arguments as for `plan_mixture`."""
    groups = check_names(mixture, list(tokens))
    held = {name: sum(tokens[source] for source in sources) for name, sources in groups.items()}
    named = {source for sources in groups.values() for source in sources}
    rest = tuple(source for source in tokens if source not in named and tokens[source])
    weights = {name: entry.share for name, entry in mixture.items() if entry.share is not None}
    budgets = {name: _budget(entry, held[name]) for name, entry in mixture.items() if name not in weights}
    length, rest_tokens = _length(weights, budgets, sum(tokens[s] for s in rest), held)
    whole = length
    if budgets and run_tokens is not None and epochs is None:
        whole = _fitted(Fraction(run_tokens), weights, budgets, bool(rest), slack, length)
        rest_tokens = whole * (1 - sum(weights.values())) - sum(budgets.values()) if rest else Fraction(0)
    scale = sum(weights.values()) if not budgets and not rest else Fraction(1)
    shares = {name: weight / scale for name, weight in weights.items()}
    shares |= {name: budget / whole for name, budget in budgets.items()}
    components = [
        Component(name, groups[name], held[name], shares[name], None if entry.epochs else entry.max_epochs)
        for name, entry in mixture.items()
        if entry.weight != 0  # a share of 0 for want of tokens is refused
    ]
    if rest:
        components.append(Component(REST, rest, sum(tokens[s] for s in rest), rest_tokens / whole))
    plan = MixturePlan(tuple(components), math.ceil(length))
    assert sum(component.share for component in components) == 1, "what is left over was given to somebody"
    return plan, _shortest(run_tokens, epochs, length)


def _budget(entry: MixtureEntry, held: int) -> Fraction:
    return Fraction(entry.tokens) if entry.tokens is not None else Fraction(repr(entry.epochs)) * held


def _length(
    weights: Mapping[str, Fraction], budgets: Mapping[str, Fraction], rest: int, held: Mapping[str, int]
) -> tuple[Fraction, Fraction]:
    """Tokens of an epoch, and of it those from sources without an entry."""
    left = _left(weights, budgets, bool(rest))
    given = sum(budgets.values(), Fraction(0)) + rest
    if not budgets and not rest:
        return Fraction(sum(held[name] for name, weight in weights.items() if weight)), Fraction(0)
    if not given:
        raise DataError(
            f"data.mixture: {', '.join(budgets)} hold no token", "look at what was dropped of them, and why"
        )
    whole = given / left
    return whole, Fraction(rest)


def _left(weights: Mapping[str, Fraction], budgets: Iterable[str], rest: bool) -> Fraction:
    """What weights leave of the whole to budgets and sources without an entry (`rest`: there are some)."""
    weighed = sum(weights.values(), Fraction(0))
    left = 1 - weighed
    others = ", ".join(budgets) or (REST if rest else "")
    if not others and abs(left) > _NEARLY:
        raise DataError(
            f"data.mixture: the weights are {_sum(weights.values())}, and no other source takes the rest",
            "make them add up to 1, or leave one source without an entry",
        )
    if others and (left <= 0 or (left <= _NEARLY and weighed)):
        raise DataError(
            f"data.mixture: the weights are {_sum(weights.values())}, which leaves nothing for {others}",
            "make the weights smaller; `weight: 0` leaves a source out",
        )
    return left


def _fitted(
    run: Fraction,
    weights: Mapping[str, Fraction],
    budgets: Mapping[str, Fraction],
    rest: bool,
    slack: int,
    length: Fraction,
) -> Fraction:
    """The length by which budgets become shares: the run's, or the mixture's where they differ by less than a batch."""
    free = run * (1 - sum(weights.values()))
    asked = sum(budgets.values(), Fraction(0))
    sums = " + ".join(f"{_tokens(budget)} ({name})" for name, budget in budgets.items())
    of_run = f"a run of {_tokens(run)} tokens" + (f", of which weights take {_tokens(run - free)}," if weights else "")
    if asked > free + slack or (rest and asked >= free):
        raise DataError(
            f"data.mixture: its budgets ask for {sums} = {_tokens(asked)} tokens; {of_run} has {_tokens(free)} for "
            + (f"them, and {REST} must have some too" if rest and asked <= free else "them"),
            "make the budgets smaller or the run longer (train.tokens, train.steps)",
        )
    if not rest and free > asked + slack:
        raise DataError(
            f"data.mixture: its budgets ask for {sums} = {_tokens(asked)} tokens; {of_run} has {_tokens(free)} for "
            "them, and no other source takes what is left",
            f"give train.epochs: 1 instead of steps or tokens, or train.tokens: {math.ceil(length)}, or leave one "
            "source without an entry",
        )
    return run if rest else length


def _shortest(run_tokens: int | None, epochs: float | None, length: Fraction) -> Fraction | None:
    limits = [Fraction(run_tokens)] if run_tokens is not None else []
    limits += [Fraction(repr(float(epochs))) * length] if epochs is not None else []
    return min(limits, default=None)


def _seen(one: Component, plan: MixturePlan, run: Fraction | None) -> Fraction:
    """Tokens of a component that training sees, in an epoch of the mixture where nothing says how long it is."""
    return one.share * (plan.epoch_tokens if run is None else run)


def _too_often(one: Component, seen: Fraction, slack: int) -> bool:
    return one.max_epochs is not None and seen - slack > Fraction(repr(one.max_epochs)) * one.tokens


def _most(budget: int, guess: int, fits: Callable[[int], bool]) -> int:
    """The largest budget that fits, below one that does not; 0 where none is found. Where all of the mixture is longer
    with a longer budget, what training sees of it is not in proportion to it.
    """
    low, high, middle = 0, budget, min(guess, budget - 1)
    while low < middle < high:
        low, high = (middle, high) if fits(middle) else (low, middle)
        middle = (low + high) // 2
    return low


def _check(
    plan: MixturePlan,
    mixture: Entries,
    context_length: int,
    run: Fraction | None,
    slack: int,
    fits: Callable[[str, int], bool],
) -> None:
    """DataError for a component that training cannot have; `fits` says whether a smaller budget of one is seen rarely
    enough.
    """
    for one in plan.components:
        if not one.tokens:
            raise DataError(
                f"data.mixture: {one.name} has 0 tokens for training; one sample needs {context_length + 1:,} "
                "(model.context_length + 1)",
                "look at what was dropped of it, and why (`tilth report`), or take it out with `weight: 0`",
            )
        if one.tokens <= context_length:
            raise DataError(
                f"data.mixture: {one.name} has {one.tokens:,} tokens for training; one sample needs "
                f"{context_length + 1:,} (model.context_length + 1)",
                "give it more text, take it out with `weight: 0`, or make model.context_length smaller",
            )
        seen = _seen(one, plan, run)
        if one.max_epochs is not None and _too_often(one, seen, slack):
            what = "one epoch of the mixture" if run is None else "the run"
            less = "a smaller share, train for less"
            if (budget := mixture[one.name].tokens) is not None:
                in_proportion = math.floor(Fraction(repr(one.max_epochs)) * one.tokens * budget / seen)
                most = _most(budget, in_proportion, partial(fits, one.name))
                less = f"ask for {f'{most:,} tokens of it at most' if most else 'fewer tokens of it'} (`tokens:`)"
            raise DataError(
                f"data.mixture: {_tokens(seen)} tokens of {what} are from {one.name}, which has {one.tokens:,}: "
                f"{float(seen / one.tokens):.2f} epochs, and max_epochs is {one.max_epochs:g}",
                f"give {one.name} more text{',' if budget else ' or'} {less}, or raise its max_epochs",
            )


def _tokens(number: Fraction) -> str:
    return f"{round(number):,}"


def whole_shares(shares: Sequence[Fraction]) -> list[int]:
    """Integers in the proportion of `shares`: exact where their sum stays below 2**31, else to that precision."""
    common = math.lcm(*(share.denominator for share in shares))
    exact = [int(share * common) for share in shares]
    divisor = math.gcd(*exact)
    exact = [share // divisor for share in exact]
    total = sum(exact)
    if total <= _FINEST:
        return exact
    return [max(1, round(Fraction(share * _FINEST, total))) for share in exact]


@dataclass(frozen=True, slots=True)
class Ring:
    """The tokens of a component, and its share as an integer."""

    name: str
    stream: TokenStream
    share: int


@dataclass(frozen=True, slots=True)
class Mixture:
    """What a loader draws from when there is a mixture: rings, and how many tokens an epoch of all of them is."""

    rings: tuple[Ring, ...]
    epoch_tokens: int
