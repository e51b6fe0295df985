"""From what the tasks said of a sample to what they will say of the whole.

reckon(seen, sources, notes) -> Forecast
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tilth.core.tasks import Done
from tilth.core.words import plural
from tilth.data.config import DataConfig
from tilth.data.forecast.estimate import FEW, Estimate, Growth, Stratum, by_chance, exactly, grown, quotient, total
from tilth.data.forecast.estimate import seen as in_sample
from tilth.data.forecast.groups import PIECES_BY
from tilth.data.forecast.units import Found
from tilth.data.naming import first_named, passed_over, with_numbers
from tilth.data.plans.workshop import Compared
from tilth.data.tasks.leaks import HELD_OUT, STAGE

LEAK_RULE = f"{STAGE}/{HELD_OUT}"
_DISK = 0.25  # what tasks keep for each part, such as examples, does not grow with it
_LEARNED = 0.01  # tokenizers that learned from other parts of one text differ by as much
_TIMES = 0.25  # a rate that is measured once may be off by so much: other processes, caches, the disk


@dataclass
class Forecast:
    """What is foretold; `plain` is what `--json` prints.

    Attributes:
        sources: of each its name, bytes and files, how much was sampled, and what could not be.
        quantities: documents, text_bytes and so on by name.
        rules: by verdict and rule.
        pieces: how many more documents the stages that cut them up make, by stage and name.
        passed_over: the first files that each rule left out before any was read.
        growth: of what does not grow in line with the text: duplicates, `exact` and `near`, and what is dropped from
            training for what is held out, by its rule.
        notes: what should be known of these figures.
    """

    sources: list[dict[str, Any]]
    workers: int
    quantities: dict[str, Estimate] = field(default_factory=dict)
    rules: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    pieces: dict[str, Estimate] = field(default_factory=dict)
    passed_over: dict[str, list[str]] = field(default_factory=dict)
    growth: dict[str, Growth] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """Plain data."""
        dropped = self.rules.get("dropped", {})
        return {
            "sources": self.sources,
            "workers": self.workers,
            **{name: estimate.plain() for name, estimate in self.quantities.items()},
            "rules": {
                verdict: {rule: estimate.plain() for rule, estimate in rules.items()}
                for verdict, rules in self.rules.items()
            },
            "pieces": {step: estimate.plain() for step, estimate in self.pieces.items()},
            "passed_over": with_numbers(self.passed_over, {rule: one.value for rule, one in dropped.items()}),
            "duplicates": {name: growth.plain() for name, growth in self.growth.items()},
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Taken:
    """The time that the sample took.

    Attributes:
        rates: of each go: seconds of one worker for a byte that is covered.
        clock: seconds of what is done for all parts, by name.
        comparing: of sub-samples (their part of the sample, seconds) of what compares documents, the whole sample last.
        per_part: seconds that a part takes for being one.
        groups: parts of the sample.
        of_all: bytes on disk of what is not of single parts.
    """

    rates: Sequence[float]
    clock: Mapping[str, float]
    comparing: Sequence[tuple[float, float]]
    per_part: float
    workers: int
    groups: int
    of_all: int


@dataclass(frozen=True)
class Seen:
    """What became of the sample.

    Attributes:
        compared: (groups, documents, what was found) of sub-samples, the whole sample last.
        assigned: the task that gave documents their splits.
        leaked: (documents, the task that took held-out text out of training) of sub-samples, the whole sample last.
        worse: how many times more tokens a text has that the tokenizer did not learn from.
        learned: whether the tokenizer learns from the text.
        drawn_anew: whether other documents will be held out: pieces of files have other ids, and stand elsewhere.
    """

    config: DataConfig
    found: Sequence[Found]
    strata: Sequence[Stratum]
    compared: Sequence[tuple[int, int, Compared]]
    assigned: Done
    leaked: Sequence[tuple[int, Done]]
    worse: float
    learned: bool
    drawn_anew: bool
    taken: Taken


def reckon(seen: Seen, sources: list[dict[str, Any]], notes: list[str]) -> Forecast:
    """What the sample says of the whole.

    Args:
        sources: what is known of each, for the forecast.
        notes: what should be known already; more are added.
    """
    forecast, strata = Forecast(sources, seen.taken.workers, notes=notes), seen.strata
    names = {name for stratum in strata for group in stratum.groups for name in group}
    for verdict in ("changed", "dropped"):
        rules = sorted(name.partition(":")[2] for name in names if name.startswith(f"{verdict}:"))
        forecast.rules[verdict] = {rule: total(strata, f"{verdict}:{rule}", counts=True) for rule in rules}
    for name in sorted(name for name in names if name.startswith(PIECES_BY)):
        if in_sample(strata, name):
            forecast.pieces[name.removeprefix(PIECES_BY)] = total(strata, name, counts=True)
    skipped = (verdict for one in seen.found for verdict in one.skipped if verdict.verdict == "dropped")
    known = Counter(f"{verdict.stage}/{verdict.rule}" for verdict in skipped)
    forecast.passed_over = first_named(passed_over(one.skipped, one.source.source_name) for one in seen.found)
    known["read/empty"] += sum(one.empty for one in seen.found)
    for rule, n in known.items():
        if n:
            # None in the sample is not none in the rest of the files; what the listing passed over is known.
            read = total(strata, f"dropped:{rule}", counts=True) if rule.startswith("read/") else exactly(0)
            forecast.rules["dropped"][rule] = read + exactly(n)
    quantities = forecast.quantities
    for name in ("read_documents", "cleaned_documents"):
        quantities[name] = total(strata, name, counts=True)
    for name in ("read_text_bytes", "cleaned_text_bytes"):
        quantities[name] = total(strata, name)
    if in_pieces := sum(one.in_pieces for one in seen.found):
        forecast.notes.append(
            f"{plural(in_pieces, 'file')} of one document each had to be cut for the sample: each piece counts as a "
            "document (a larger --sample takes them whole)"
        )
    gone_bytes = _duplicates(forecast, seen)
    _kept(forecast, seen, gone_bytes)
    quantities["disk_bytes"] = _disk(seen)
    quantities["seconds"] = _seconds(seen)
    return forecast


def _duplicates(forecast: Forecast, seen: Seen) -> Estimate:
    """The growth of duplicates; returns the bytes that go with them, which are counted: copies may be long or short."""
    gone_bytes = exactly(0)
    for name in ("exact", "near"):
        found = [(n, getattr(one, name)) for _, n, one in seen.compared if getattr(one, name) is not None]
        if found and (name == "exact" or seen.config.drops_near):
            facts = [(n, done.facts["documents"], done.facts["text_bytes"]) for n, done in found]
            gone_bytes = gone_bytes + _grows(forecast, seen, name, facts)
    assigned, documents = seen.assigned.facts, seen.compared[-1][1]
    for rule, n in assigned["rules"]["dropped"].items():
        facts = [(documents, n, assigned["dropped_bytes"][rule])]
        gone_bytes = gone_bytes + _grows(forecast, seen, rule, facts, drawn=True)
    if seen.leaked:
        facts = [(n, _leaked(done, "documents"), _leaked(done, "bytes")) for n, done in seen.leaked]
        gone_bytes = gone_bytes + _grows(forecast, seen, LEAK_RULE, facts, drawn=True) + _cut_out(forecast, seen)
    growing = [growth for growth in forecast.growth.values() if growth.times > 1]
    if growing:
        fitted = (
            "their growth is fitted to a quarter, a half and all of the sample, and their interval reaches from growth "
            "in line to clearly faster than the fit"
        )
        unknown = (
            f"where the sample has fewer than {FEW} of them, or all in one part, their growth is not known, and their "
            "interval reaches from growth in line to that of pairs that lie anywhere"
        )
        said = {growth.fitted: fitted if growth.fitted else unknown for growth in growing}
        forecast.notes.append(
            f"duplicates{' and training text that is held out do' if seen.leaked else ' do'} not grow in line with the "
            f"text: {'; '.join(said[known] for known in (True, False) if known in said)}"
        )
    return gone_bytes


def _cut_out(forecast: Forecast, seen: Seen) -> Estimate:
    """The bytes of the passages that are cut out of training documents, as held-out documents have them."""
    found = [(n, done.facts["rules"].get("changed", {}).get(LEAK_RULE, 0)) for n, done in seen.leaked]
    if not found[-1][1] or seen.config.chat is not None:
        return exactly(0)
    strata, dropped = seen.strata, sum(seen.assigned.facts["dropped_bytes"].values())
    near = seen.compared[-1][2].near if seen.config.drops_near else None
    dropped += sum(one.facts["text_bytes"] for one in (seen.compared[-1][2].exact, near) if one is not None)
    gone = dropped + _leaked(seen.leaked[-1][1], "bytes") + in_sample(strata, "refused_bytes")
    size = max(0.0, in_sample(strata, "cleaned_text_bytes") - gone - in_sample(strata, "encoded_bytes"))
    if not size:
        return exactly(0)
    whole, each = forecast.quantities["cleaned_documents"].value, size / found[-1][1]
    most = forecast.quantities["cleaned_text_bytes"].value
    return grown([(n, some * each) for n, some in found], whole, each=each, most=most).estimate


def _leaked(done: Done, what: str) -> int:
    """How many documents, or bytes, of training hold held-out text."""
    counted = done.facts["rules"]["dropped"] if what == "documents" else done.facts["dropped_bytes"]
    return int(counted.get(LEAK_RULE, 0))


def _grows(
    forecast: Forecast, seen: Seen, name: str, found: Sequence[tuple[int, int, int]], *, drawn: bool = False
) -> Estimate:
    """Puts the growth of what is dropped into the forecast; returns that of its bytes.

    Args:
        found: (documents, those dropped, bytes dropped) of sub-samples, the whole sample last.
        drawn: it goes by what is held out.
    """
    whole, whole_bytes = (forecast.quantities[f"cleaned_{what}"].value for what in ("documents", "text_bytes"))
    documents, dropped, size = found[-1]
    growth = grown([(n, some) for n, some, _ in found], whole, most=whole - (documents - dropped))
    more = by_chance(growth.estimate.value) if drawn and seen.drawn_anew else 0.0
    forecast.growth[name] = replace(growth, estimate=growth.estimate.widened(more))
    each = size / dropped if dropped else whole_bytes / (whole or 1)
    most = whole_bytes - (in_sample(seen.strata, "cleaned_text_bytes") - size)
    return grown([(n, some) for n, _, some in found], whole, each=each, most=most).estimate.widened(more * each)


def _kept(forecast: Forecast, seen: Seen, gone_bytes: Estimate) -> None:
    quantities, strata = forecast.quantities, seen.strata
    gone = total(strata, "refused", counts=True)
    gone_bytes = gone_bytes + total(strata, "refused_bytes")
    for growth in forecast.growth.values():
        gone = gone + growth.estimate
    whole = in_sample(strata, "encoded_documents") - seen.assigned.facts["cut"]  # one in two splits counts once
    more = sum(by_chance(_leaked(done, "documents")) for _, done in seen.leaked[-1:]) if seen.drawn_anew else 0.0
    known = max(0.0, whole - more), in_sample(strata, "encoded_bytes") * max(0.0, 1 - more / max(1, whole))
    quantities["kept_documents"] = quantities["cleaned_documents"].minus(gone).at_least(known[0])
    quantities["kept_text_bytes"] = quantities["cleaned_text_bytes"].minus(gone_bytes).at_least(known[1])
    if all(stratum.share == 1 for stratum in strata):  # there is nothing to reckon
        quantities["kept_documents"] = quantities["kept_documents"].about(whole)
        quantities["kept_text_bytes"] = quantities["kept_text_bytes"].about(in_sample(strata, "encoded_bytes"))
    kept = quantities["kept_text_bytes"]
    quantities["tokens"] = kept.times(quotient(strata, "tokens", "encoded_bytes")).times(_suits(forecast, seen))
    quantities["dataset_bytes"] = kept.times(quotient(strata, "dataset", "encoded_bytes"))


def _suits(forecast: Forecast, seen: Seen) -> Estimate:
    """How many times more tokens the text has than by the tokenizer of the sample.

    Even where all was sampled the recipe's tokenizer will be another one: pieces of files have other ids than the
    files, so that other documents are held out, which it does not learn from.
    """
    strata, more = seen.strata, seen.worse - 1
    unseen = max(0.0, 1 - sum(sum(s.covered) for s in strata) / max(1, sum(s.whole for s in strata)))
    other = max(
        more * sum(share for _, share in seen.config.split.held_out),
        _LEARNED if seen.learned and seen.drawn_anew else 0.0,
    )
    if more > 0.001 and unseen > 0.001:
        forecast.notes.append(
            f"a tokenizer that learned from half of the sample needs {100 * more:.1f}% more tokens for the other half: "
            "the interval of tokens allows for that"
        )
    return Estimate(1 + more * unseen / 2, 1 - other, 1 + max(more * unseen, other))


def _disk(seen: Seen) -> Estimate:
    """What the tasks leave; files of another size compress otherwise, and what is of all parts was seen once."""
    strata = seen.strata
    whole, covered = sum(s.whole for s in strata), sum(sum(s.covered) for s in strata) or 1
    found, of_all = total(strata, "disk"), seen.taken.of_all * max(1.0, whole / covered)
    off = _DISK * (found.value + of_all)
    return Estimate(found.value + of_all, max(0.0, found.low + of_all - off), found.high + of_all + off)


def _seconds(seen: Seen) -> Estimate:
    """The time of all workers over the whole, by what the sample took."""
    strata, taken = seen.strata, seen.taken
    whole, covered = sum(s.whole for s in strata), sum(sum(s.covered) for s in strata) or 1
    times, workers = max(1.0, whole / covered), taken.workers
    parts = sum(max(1, -(-one.size // seen.config.shard_bytes)) for one in seen.found if one.inputs)
    busy = min(workers, parts)
    work = Estimate(*(rate * whole / busy for rate in (_mean(taken.rates), min(taken.rates), max(taken.rates))))
    encoding = taken.clock["encode"] * min(workers, taken.groups) / busy
    learned, half = taken.clock["tokenizer"], taken.clock.get("half a tokenizer")
    rest = _longer(taken.comparing, times) + _longer([(1.0, encoding)], times)
    rest = rest + _longer([(0.5, half), (1.0, learned)] if half is not None else [(1.0, learned)], times)
    moved = Estimate(work.value, work.low * (1 - _TIMES), work.high * (1 + _TIMES))
    begun = taken.clock["start"] + taken.clock.get("items", 0.0) + taken.per_part * parts / busy
    return moved + rest + exactly(begun).widened(_TIMES * begun)


def _longer(spent: Sequence[tuple[float, float]], times: float) -> Estimate:
    """What will take so many times the sample: by a line through its sub-samples, for starting, writing and the like
    take as long for few bytes as for many. Of a single one no line is known: it may all have been that.

    Args:
        spent: (part of the sample, seconds) of sub-samples, the whole sample last.
    """
    seconds = spent[-1][1]
    slope, off = seconds, seconds
    if len(spent) > 1:
        mean_x, mean_y = (_mean(values) for values in zip(*spent, strict=True))
        across = sum((x - mean_x) ** 2 for x, _ in spent) or 1.0
        slope = sum((x - mean_x) * (y - mean_y) for x, y in spent) / across
        slope, off = min(seconds, max(0.0, slope)), _TIMES * seconds / math.sqrt(across)
    low, high = max(0.0, slope - off), min(seconds, slope + off)
    value, least, most = (seconds + rate * (times - 1) for rate in (slope, low, high))
    return Estimate(value, least * (1 - _TIMES), most * (1 + _TIMES))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
