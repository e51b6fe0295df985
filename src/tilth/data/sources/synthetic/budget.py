"""What requests cost and may cost, in exact arithmetic; and how many a minute.

Budget(price, cap)     reserve before sending, settle after: spent + under way never exceeds the cap
Pacer(limit, seconds)  so many requests, or tokens, in any such span of time
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tilth.data.sources.synthetic.config import Price

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens sent and tokens received."""

    input: int = 0
    output: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.input + other.input, self.output + other.output)

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(self.input - other.input, self.output - other.output)


class Budget:
    """Counts tokens; with prices also money."""

    def __init__(self, price: Price | None, cap: float | None) -> None:
        # str: 0.1 shall be a tenth, not the nearest binary number.
        self._price = (Fraction(str(price.input)), Fraction(str(price.output))) if price else None
        self._cap = None if cap is None else Fraction(str(cap))
        self.spent, self.reserved = Tokens(), Tokens()

    def cost(self, tokens: Tokens) -> Fraction:
        """What tokens cost; nothing where no price is known."""
        if self._price is None:
            return Fraction(0)
        return (tokens.input * self._price[0] + tokens.output * self._price[1]) / _MILLION

    def fits(self, bound: Tokens) -> bool:
        """Whether a request may be sent that uses no more than this."""
        return self._cap is None or self.cost(self.spent + self.reserved + bound) <= self._cap

    def reserve(self, bound: Tokens) -> None:
        """A request that may use so much is under way."""
        self.reserved += bound

    def settle(self, bound: Tokens, used: Tokens) -> None:
        """It came back, and used so much."""
        self.reserved -= bound
        self.spent += used

    def arithmetic(self, bound: Tokens) -> str:
        """Why a request does not fit, in figures."""
        assert self._price is not None and self._cap is not None
        spent, more = self.cost(self.spent), self.cost(bound)
        return (
            f"spent {_money(spent)} ({self.spent.input} tokens sent x {_money(self._price[0])} + {self.spent.output} "
            f"received x {_money(self._price[1])}, per million), the next request may cost up to {_money(more)} "
            f"({bound.input} and {bound.output} tokens): {_money(spent + more)} is more than {_money(self._cap)}"
        )

    def said(self) -> str:
        """What was used, for the ledger."""
        money = "" if self._price is None else f", cost {_money(self.cost(self.spent))}"
        return f"{self.spent.input} tokens sent, {self.spent.output} received{money}"


def _money(value: Fraction) -> str:
    return f"{float(value):.6f}".rstrip("0").rstrip(".")
