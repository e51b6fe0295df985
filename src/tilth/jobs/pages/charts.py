"""Curves as plain geometry: numbers in, positions and labels out. `report.html.jinja` draws them.

    training_charts(steps, validation) -> [Chart]     the charts of a run
    line_chart(key, title, unit, lines) -> Chart      axes, ticks, paths, a description in words, a short table
    thin(points, most)                                fewer points that keep first, last and every visible extreme
    smooth(values, window)                            exponential moving average
    linear_axis / log_axis                            round limits and readable ticks

A plot is 1000 x 1000 units, stretched to the width of the page; tick labels are text beside it, so that they stay
readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tilth.core.rundir import StepRecord

Point = tuple[float, float]
Kind = Literal["raw", "smooth", "marks"]

MOST_POINTS = 600
MOST_MARKS = 200
_SIZE = 1000.0
_TABLE_ROWS = 12
_LOG_RATIO = 200.0  # a wider range than this hides everything but its peak on a linear axis


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: `raw` is drawn thin, `smooth` thick, `marks` dashed with a square at each point."""

    name: str
    kind: Kind
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Tick:
    """A label at `percent` of the axis."""

    percent: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Limits and ticks. On a logarithmic axis the limits are exponents of ten."""

    low: float
    high: float
    ticks: tuple[Tick, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1 (held inside the plot)."""
        at = math.log10(value) if self.log else value
        return min(1.0, max(0.0, (at - self.low) / (self.high - self.low)))


@dataclass(frozen=True, slots=True)
class Drawn:
    """A line as an SVG path, and its marks as a path of dots."""

    name: str
    kind: Kind
    path: str
    dots: str


@dataclass(frozen=True, slots=True)
class Chart:
    """All that the template needs to draw one chart, and to say it in words."""

    key: str
    title: str
    unit: str
    note: str
    x: Axis
    y: Axis
    lines: tuple[Drawn, ...]
    description: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left_out: int

    @property
    def scale(self) -> str:
        """The limits, for the script that reads values off the plot."""
        return f"{self.x.low:g} {self.x.high:g} {self.y.low:.8g} {self.y.high:.8g} {int(self.y.log)}"


def line_chart(
    key: str, title: str, unit: str, lines: Sequence[Line], note: str = "", *, zero: bool = False, log: bool = False
) -> Chart | None:
    """A chart over training steps; None when no line has a finite point.

    Args:
        zero: the value axis starts at zero.
        log: the value axis is logarithmic where the values span more than a linear axis can show.
    """
    kept = [Line(line.name, line.kind, finite(line.points)) for line in lines]
    kept = [line for line in kept if line.points]
    if not kept:
        return None
    values = [y for line in kept for _, y in line.points]
    last = max(x for line in kept for x, _ in line.points)
    wide = log and min(values) > 0 and max(values) / min(values) > _LOG_RATIO
    y = log_axis(min(values), max(values)) if wide else linear_axis(0.0 if zero else min(values), max(values), 5)
    columns, rows = _table(kept)
    return Chart(
        key=key,
        title=title,
        unit=f"{unit}, log scale" if wide else unit,
        note=note,
        x=_step_axis(last),
        y=y,
        lines=tuple(_draw(line, _step_axis(last), y) for line in kept),
        description="; ".join(_in_words(line) for line in kept) + ".",
        columns=columns,
        rows=rows,
        left_out=sum(len(line.points) for line in lines) - sum(len(line.points) for line in kept),
    )


def number(value: float) -> str:
    """Four significant digits, whole above 10,000: `1.904`, `0.0001`, `27,220`."""
    if not math.isfinite(value):
        return "not a number"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def finite(points: Iterable[Point]) -> list[Point]:
    """The points whose value is a number that can be drawn."""
    return [point for point in points if math.isfinite(point[1])]


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """At most `most` points: the first, the last, and the lowest and the highest of equal stretches between them."""
    if len(points) <= most:
        return list(points)
    inner, stretches = points[1:-1], most // 2 - 1
    kept = [points[0]]
    for n in range(stretches):
        part = inner[n * len(inner) // stretches : (n + 1) * len(inner) // stretches]
        kept += sorted({min(part, key=_value), max(part, key=_value)})
    return [*kept, points[-1]]


def _value(point: Point) -> float:
    return point[1]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Exponential moving average over about `window` values, corrected at its start; only finite values enter it."""
    share, total, weight, result = 2.0 / (window + 1), 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            total += share * (value - total)
            weight += share * (1.0 - weight)
        result.append(total / weight if weight else math.nan)
    return result


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 … count - 1, evenly spread, the first and the last among them."""
    if count <= most or most < 2:
        return list(range(min(count, most)))
    return [round(n * (count - 1) / (most - 1)) for n in range(most)]


def linear_axis(low: float, high: float, intervals: int) -> Axis:
    """Limits that are round numbers around the values, with a tick at each multiple of a round step."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # one value, or all alike: some room around it
        room = abs(high) * 0.1 or 1.0
        low, high = (low - room if low else 0.0), high + room
    step = _round_step((high - low) / intervals)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    label = _labeller(step, max(abs(low), abs(high)))
    ticks = tuple(Tick(100 * (n - first) / (last - first), label(n * step)) for n in range(first, last + 1))
    return Axis(first * step, last * step, ticks)


def log_axis(low: float, high: float) -> Axis:
    """Powers of ten around the values."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, -(-(last - first) // 6))
    powers = range(first, last + 1, stride)
    ticks = tuple(Tick(100 * (n - first) / (last - first), f"{10.0**n:g}") for n in powers)
    return Axis(first, last, ticks, log=True)


def _step_axis(last: float) -> Axis:
    """From 0 to the last step exactly: a run should fill its plot."""
    step = max(1.0, _round_step(last / 4))
    label = _labeller(step, last)
    ticks = tuple(Tick(100 * n * step / last, label(n * step)) for n in range(int(last / step + 1e-9) + 1))
    return Axis(0.0, last, ticks)


def _round_step(rough: float) -> float:
    power = 10.0 ** _power(rough)
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))


def _labeller(step: float, largest: float) -> Callable[[float], str]:
    """How the values of an axis are written, all of them with as many digits as tell them apart."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if step >= size:
            return lambda value: f"{value / size:,.12g}{suffix}" if value else "0"
    decimals = max(0, -_power(step))
    if decimals > 4:
        digits = max(0, _power(largest) - _power(step))
        return lambda value: f"{value:.{digits}e}".replace("e-0", "e-") if value else "0"
    return lambda value: f"{value:,.{decimals}f}"


def _power(value: float) -> int:
    """The exponent of ten of a value."""
    return math.floor(math.log10(value) + 1e-9)


def _draw(line: Line, x: Axis, y: Axis) -> Drawn:
    points = thin(line.points, MOST_MARKS if line.kind == "marks" else MOST_POINTS)
    places = [f"{x.share(a) * _SIZE:.1f} {(1 - y.share(b)) * _SIZE:.1f}" for a, b in points]
    # A path of no length is drawn as a dot where its line caps are round: also a run of one step is seen.
    path = "M" + "L".join(places) + ("h0" if len(places) == 1 else "")
    dots = "".join(f"M{place}h0" for place in places) if line.kind == "marks" else ""
    return Drawn(line.name, line.kind, path, dots)


def _in_words(line: Line) -> str:
    (first, start), (last, end) = line.points[0], line.points[-1]
    if len(line.points) == 1:
        return f"{line.name}: {number(start)} at step {first:,.0f}"
    low, high = min(line.points, key=_value), max(line.points, key=_value)
    return (
        f"{line.name}: {number(start)} at step {first:,.0f}, {number(end)} at step {last:,.0f}; "
        f"lowest {number(low[1])} (step {low[0]:,.0f}), highest {number(high[1])} (step {high[0]:,.0f})"
    )


def _table(lines: Sequence[Line]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Some steps of the curves in numbers; marks have a table of their own on the page."""
    curves = [line for line in lines if line.kind != "marks"]
    if not curves:
        return (), ()
    by_step = [dict(line.points) for line in curves]
    steps = [x for x, _ in curves[0].points]
    chosen = [steps[n] for n in evenly(len(steps), _TABLE_ROWS)]
    rows = [(f"{x:,.0f}", *(number(values[x]) if x in values else "–" for values in by_step)) for x in chosen]
    return ("step", *(line.name for line in curves)), tuple(rows)


def training_charts(steps: Sequence[StepRecord], validation: Sequence[Point]) -> list[Chart]:
    """The charts of a run: loss, learning rate, gradient norm, speed; those that have nothing to show are left out."""
    loss = [*_curves(steps, "loss", "training, "), Line("validation", "marks", validation)]
    grad_norm, speed = _curves(steps, "grad_norm"), _curves(steps, "tokens_per_second")
    charts = [
        line_chart("loss", "Loss", "nats per token", loss),
        line_chart("lr", "Learning rate", "size of a step", [_curve(steps, "lr", "each step")], _LR_NOTE, zero=True),
        line_chart("grad", "Gradient norm", "length", grad_norm, _GRAD_NOTE, zero=True, log=True),
        line_chart("speed", "Speed", "tokens per second", speed, _SPEED_NOTE, zero=True),
    ]
    return [chart for chart in charts if chart]


_LR_NOTE = "How far a step may move the parameters. The schedule in the recipe sets it."
_GRAD_NOTE = "How strongly the text of a step pulls at the parameters. Sudden peaks are a sign of trouble."
_SPEED_NOTE = "Dips often mean that the machine was busy with something else."


def _curve(steps: Sequence[StepRecord], field: str, name: str) -> Line:
    values = ((step.step, getattr(step, field)) for step in steps)
    # A skipped step has no gradient norm: not a number, which `line_chart` leaves out and counts.
    return Line(name, "smooth", [(step, math.nan if value is None else float(value)) for step, value in values])


def _curves(steps: Sequence[StepRecord], field: str, prefix: str = "") -> list[Line]:
    """A field over the steps, and its moving average over 2% of them (10 at least) where there are enough of them."""
    line, window = _curve(steps, field, f"{prefix}each step"), max(10, len(steps) // 50)
    if len(steps) < 2 * window:
        return [line]
    average = smooth([value for _, value in line.points], window)
    averaged = [(point[0], value) for point, value in zip(line.points, average, strict=True)]
    return [Line(line.name, "raw", line.points), Line(f"{prefix}mean of ~{window:,} steps", "smooth", averaged)]
