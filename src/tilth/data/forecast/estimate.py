"""From a sample to the whole.

    Estimate                     a value with the ends of its 95% interval
    Stratum                      the sample of one source: what its groups cover and hold
    total(strata, name)          a quantity that grows with the text: a ratio estimate, its error by the jackknife
    quotient(strata, a, b)       how much of one quantity there is for another, such as tokens for a byte
    grown(points, whole)         a quantity that grows faster, such as duplicates: its growth fitted

Each kind of file of each source is a stratum of its own: its total is (bytes of its files) * (sum over groups) / (bytes
that they cover); of documents, where each file is one or none, by the number of files instead. The error comes from how
the groups differ: each is left out once (delete-a-group jackknife; Wolter 2007, chapter 4), less what is known because
it was sampled. Counts get at least the error that counting so few has (Poisson; of files that are counted or are not,
binomial).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_Z = 1.96
READ = "read_documents"
"""In a group: how many documents its files gave."""
FEW = 10
"""Duplicates: how they grow is not known by fewer."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and between what it lies with 95% odds."""

    value: float
    low: float
    high: float

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.value + other.value, self.low + other.low, self.high + other.high)

    def minus(self, other: Estimate) -> Estimate:
        """The difference, never below nothing; the widest that both intervals allow."""
        return Estimate(
            *(max(0.0, x) for x in (self.value - other.value, self.low - other.high, self.high - other.low))
        )

    def times(self, other: Estimate) -> Estimate:
        """The product of two positive ones, the widest that both intervals allow."""
        return Estimate(self.value * other.value, self.low * other.low, self.high * other.high)

    def widened(self, by: float) -> Estimate:
        """The same, with so much more to both sides."""
        return Estimate(self.value, max(0.0, self.low - by), self.high + by)

    def about(self, known: float) -> Estimate:
        """As far around another value."""
        low, high = known - (self.value - self.low), known + (self.high - self.value)
        return Estimate(known, max(0.0, low), high)

    def at_least(self, known: float) -> Estimate:
        """The same where so much was seen."""
        return Estimate(*(max(known, x) for x in (self.value, self.low, self.high)))

    def plain(self) -> dict[str, float]:
        """For JSON: whole numbers from 100 on."""
        return {name: _rounded(getattr(self, name)) for name in ("value", "low", "high")}


def _rounded(number: float) -> float:
    return round(number) if number >= 100 else round(number, 3)


def by_chance(count: float) -> float:
    """How far a count may be off where another draw counts anew: twice its Poisson error, and three (the rule of three:
    so many may be there where none was seen).
    """
    return 2 * math.sqrt(count) + 3


def exactly(number: float) -> Estimate:
    """What is known."""
    return Estimate(number, number, number)


@dataclass
class Stratum:
    """What is known of the files of one kind in one source.

    Attributes:
        name: theirs. whole: the bytes of these files, as they lie on disk.
        covered: of each group of the sample, the bytes of files that it stands for.
        groups: of each group what was counted in it.
        files: how many files these are, where none had to be cut.
        sampled: of each group how many files are in it.
    """

    name: str
    whole: int
    covered: list[int] = field(default_factory=list)
    groups: list[dict[str, float]] = field(default_factory=list)
    files: int = 0
    sampled: list[int] = field(default_factory=list)

    @property
    def share(self) -> float:
        """How much of the source was sampled."""
        return min(1.0, sum(self.covered) / self.whole) if self.whole else 1.0

    @property
    def of_files(self) -> bool:
        """Whether a file is a document, or none: what counts documents grows with the number of files then."""
        pairs = zip(self.groups, self.sampled, strict=True) if self.files else ()
        return bool(self.files) and all(group.get(READ, 0) <= files for group, files in pairs)

    def most(self, name: str) -> float:
        """How many documents something can be said of."""
        counted = sum(group.get(name, 0) for group in self.groups)
        return self.files if self.of_files and counted <= sum(self.sampled) else math.inf

    def ratio(self, name: str, without: int | None = None, *, counts: bool = False) -> float:
        """The source's total of a quantity, by all groups or by all but one."""
        kept = [n for n in range(len(self.groups)) if n != without]
        whole, sizes = (self.files, self.sampled) if counts and self.of_files else (self.whole, self.covered)
        covered = sum(sizes[n] for n in kept)
        return whole * sum(self.groups[n].get(name, 0) for n in kept) / covered if covered else 0.0

    def variance(self, name: str, counts: bool) -> float:
        """The squared error of `ratio`."""
        of_files = counts and self.of_files
        share = sum(self.sampled) / self.files if of_files else self.share
        unknown = 1 - share
        if unknown <= 0 or not self.groups:
            return 0.0
        number, counted = len(self.groups), sum(group.get(name, 0) for group in self.groups)
        if of_files and counted <= sum(self.sampled):  # each file is counted, or is not
            counted *= 1 - counted / sum(self.sampled)
        # Of what was not met once there may be three for each that was looked at (the rule of three): twice this error.
        by_counting = (counted or 1.5**2) / share**2 if counts else 0.0
        if number == 1:
            return max(by_counting, self.ratio(name, counts=counts) ** 2) * unknown
        left_out = [self.ratio(name, n, counts=counts) for n in range(number)]
        mean = sum(left_out) / number
        spread = (number - 1) / number * sum((value - mean) ** 2 for value in left_out)
        return max(spread, by_counting) * unknown


def seen(strata: Sequence[Stratum], name: str) -> float:
    """How much of a quantity the sample itself has."""
    return sum(sum(group.get(name, 0) for group in stratum.groups) for stratum in strata)


def total(strata: Sequence[Stratum], name: str, *, counts: bool = False) -> Estimate:
    """A quantity over all sources.

    Args:
        counts: it counts documents, each of which is there or is not.
    """
    value = sum(stratum.ratio(name, counts=counts) for stratum in strata)
    error = math.sqrt(sum(stratum.variance(name, counts) for stratum in strata))
    groups = [len(stratum.groups) - 1 for stratum in strata if stratum.share < 1]
    width = _student(max(1, sum(groups))) * error
    high = value + width
    if counts:
        high = max(value, min(high, sum(stratum.most(name) for stratum in strata)))
    return Estimate(value, max(seen(strata, name), value - width), high)


def quotient(strata: Sequence[Stratum], above: str, below: str) -> Estimate:
    """How much of `above` there is for one of `below`, over all sources; its error by the jackknife as well."""
    tops, bottoms = ([stratum.ratio(name) for stratum in strata] for name in (above, below))
    value, variance = _divided(sum(tops), sum(bottoms)), 0.0
    for place, stratum in enumerate(strata):
        number = len(stratum.groups)
        rates = []
        for n in range(number):
            top = sum(tops) - tops[place] + stratum.ratio(above, n)
            rates.append(_divided(top, sum(bottoms) - bottoms[place] + stratum.ratio(below, n)))
        if number > 1:
            mean = sum(rates) / number
            variance += (1 - stratum.share) * (number - 1) / number * sum((rate - mean) ** 2 for rate in rates)
    groups = [len(stratum.groups) - 1 for stratum in strata if stratum.share < 1]
    width = _student(max(1, sum(groups))) * math.sqrt(variance)
    return Estimate(value, max(0.0, value - width), value + width)


def _divided(above: float, below: float) -> float:
    return above / below if below else 0.0


def _student(freedom: int) -> float:
    """The 97.5% point of Student's t: Cornish and Fisher's expansion (Abramowitz and Stegun 26.7.5)."""
    z = _Z
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


@dataclass(frozen=True, slots=True)
class Growth:
    """How a quantity grows with the number of documents: as their number to the power of `power`.

    Attributes:
        times: how many times the sample the whole is.
        fitted: the power is that of two sub-samples or more; else it is taken for 1, and may be 2.
    """

    estimate: Estimate
    power: float
    times: float
    fitted: bool

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        numbers = {"power": round(self.power, 2), "times": round(self.times, 2)}
        return {**self.estimate.plain(), **numbers, "fitted": self.fitted}


def grown(
    points: Sequence[tuple[float, float]], whole: float, *, each: float = 1.0, most: float | None = None
) -> Growth:
    """What has grown to `whole` documents, from (documents, quantity) of sub-samples, the largest last.

    Args:
        each: how much of the quantity one document has: 1 where documents are counted, else bytes.
        most: all that there is of it, `whole` by default.

    Copies that stand beside their originals grow with the text (power 1). Those that lie anywhere are pairs, of which a
    sample of a tenth has a hundredth (power 2). The power is fitted to the sub-samples; the interval reaches from power
    1 to half a power more than the fitted one, or more where few were counted, up to 2; it allows for how few they are.
    """
    documents, found = points[-1]
    times = max(1.0, whole / documents) if documents else 1.0
    if times < 1.0005:
        return Growth(exactly(found), 1.0, 1.0, True)
    power, off = _power(points, each)
    most = whole if most is None else most
    few = 2 * math.sqrt(found * each) if found else 0.0
    more = (found + few) if found else 3.0 * each  # none in the sample: fewer than three are expected (rule of three)
    value = min(most, found * times**power)
    low = max(found, (found - few) * times)
    high = max(value, min(most, more * times ** min(2.0, power + max(0.5, off))))
    return Growth(Estimate(max(value, low), low, high), power, times, off < math.inf)


def _power(points: Sequence[tuple[float, float]], each: float) -> tuple[float, float]:
    """The power, 1 to 2, and how far it may be off: twice its error by how few were counted; infinity: it is not known,
    as they are next to none, or all in one sub-sample.
    """
    some = [(n, found) for n, found in points if n and found]
    if len(some) < 2 or some[0][0] == some[-1][0]:
        return 1.0, math.inf
    logs = [(math.log(n), math.log(found)) for n, found in some]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    across = sum((x - mean_x) ** 2 for x, _ in logs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in logs) / across
    # The smallest sub-sample is in the largest: what these have in common is no error of their ratio.
    error = math.sqrt(max(0.0, each / some[0][1] - each / some[-1][1])) / (logs[-1][0] - logs[0][0])
    few = round(some[-1][1] / each) < FEW
    return float(min(2.0, max(1.0, slope))), math.inf if few else 2 * error
