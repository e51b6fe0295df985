"""Tables that commands print, and how tilth writes numbers, series and foreign text on a terminal.

    count  brief_count  size  duration  scientific  percent  plural     one way to write each kind of number
    sparkline  bar  grid    figures drawn with characters
    printable  flat         text from models, data and paths, with nothing left in it that a terminal would obey
    metrics_table(metrics)  figures of an evaluation, each with what it means
    result_table(result)    how a run ended
    bare_table(title, …)    what tables begin with; bare_grid() of labels and what stands for each
    Unbroken(text)          a sentence in which nothing that is to be pasted is broken

The tables are rich renderables; nothing is printed here. What comes from outside goes in as `Text`, never as markup.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from tilth.core.words import against_forecast, scaled
from tilth.core.words import plural as plural
from tilth.core.words import size as size

LABEL_WIDTH = 11
_CELL_WIDTH = 25  # the narrowest: a label and a figure
_JOINERS = "\u200c\u200d"  # invisible, harmless, and needed to write Persian, Hindi and many emoji

METRICS: dict[str, tuple[str, str]] = {
    "loss": ("loss", "how surprised the model is by each token that it predicts, in nats; lower is better"),
    "perplexity": (
        "perplexity",
        "as if it chose each token among this many equal ones (exp of the loss); lower is better",
    ),
    "bits_per_byte": ("bits/byte", "bits to store a byte of this text; lower is better, comparable between tokenizers"),
    "accuracy": ("accuracy", "how often the true token was the model's first choice; higher is better"),
    "tokens": ("tokens", "how many tokens were predicted to get these figures"),
    "pseudo_perplexity": (
        "pseudo-perplexity",
        "the perplexity of a token when it alone is hidden and all others are seen; lower is better",
    ),
    "pseudo_tokens": ("of tokens", "how many tokens the pseudo-perplexity was measured on"),
}
"""Each metric's short name and what it says to someone who meets it for the first time."""

_STOPPED_BY = {
    "steps": "train.steps was reached",
    "tokens": "train.tokens was reached",
    "epochs": "train.epochs was reached",
    "hours": "train.hours was reached",
    "early_stopping": "validation no longer improved (train.early_stopping)",
    "convergence": "the training loss no longer fell (train.convergence)",
}
_RESULT_WORDS = {
    "run": "run folder",
    "step": "steps done",
    "tokens": "tokens seen",
    "train_loss": "training loss",
    "validation_loss": "validation loss",
    "seconds": "time",
    "stopped_by": "ended because",
    "checkpoint": "last checkpoint",
}


def count(number: int) -> str:
    """1,234,567."""
    return f"{number:,}"


def brief_count(number: float) -> str:
    """Exact to ten million, then 12.3 M, 4.56 B, 7.89 T: for narrow places."""
    if number < 1e7:
        return f"{round(number):,}"
    return scaled(number, ("", "K", "M", "B", "T"))


def duration(seconds: float) -> str:
    """0:58, 1:02:03, 2d 03:04:05; whole seconds, rounded down as clocks do."""
    minutes, second = divmod(int(max(0.0, seconds)), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d {hours % 24:02}:{minute:02}:{second:02}"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def scientific(number: float) -> str:
    """3.2e-04."""
    return f"{number:.1e}"


def percent(share: float) -> str:
    """12.5%, rounded; 100.0% means all."""
    if not math.isfinite(share):
        return "unknown"
    return f"{min(100 * share, 99.9):.1f}%" if share < 1 else f"{100 * share:.1f}%"


def sparkline(values: Sequence[float], width: int, ascii_only: bool = False) -> str:
    """The last `width` values as bars, the lowest of them the shortest and the highest the tallest."""
    marks = "_.-=+*#" if ascii_only else "▁▂▃▄▅▆▇█"
    shown = values[-width:] if width > 0 else []
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    span = high - low
    return "".join(marks[round((value - low) / span * (len(marks) - 1)) if span > 0 else 0] for value in shown)


def bar(share: float, width: int, ascii_only: bool = False) -> Text:
    """A progress bar of `width` characters."""
    done, rest = ("#", "-") if ascii_only else ("━", "┈")
    filled = max(0, min(width, int(share * width)))
    return Text.assemble((done * filled, "green"), (rest * (width - filled), "dim"))


def labelled(label: str, value: str = "", width: int | None = None) -> Text:
    """A label and its figure; cut or filled up to `width` where one is given."""
    text = Text.assemble((f"{label:<{LABEL_WIDTH}}", "dim"), value)
    if width is not None:
        text.truncate(width, overflow="ellipsis", pad=True)
    return text


def grid(cells: Sequence[tuple[str, str]], width: int) -> Iterator[Text]:
    """Lines of labelled figures, as many to a line as fit, three at most."""
    columns = min(3, max(1, width // _CELL_WIDTH))
    for start in range(0, len(cells), columns):
        row = cells[start : start + columns]
        yield Text.assemble(*(labelled(label, value, width // columns) for label, value in row))


def flat(text: str) -> str:
    """A text of several lines as one line, printable."""
    return printable(" ".join(text.split()))


def printable(text: str, *, lines: bool = False) -> str:
    """Text in which control characters, escape sequences, direction overrides and lone surrogates are spelled out.

    Args:
        lines: keep line feeds as they are; otherwise they become \\n, and the text stays one line.
    """
    if text.isprintable():  # the common case, at the speed of C; a space is printable
        return text
    return "".join(c if _is_harmless(c) or (lines and c == "\n") else _spelled(c) for c in text)


def _is_harmless(character: str) -> bool:
    # str.isprintable refuses every space but " "; U+00A0 and U+3000 are ordinary in French and Japanese text.
    if character.isprintable() or character in _JOINERS:
        return True
    return character.isspace() and ord(character) >= 0xA0 and character not in "\u2028\u2029"


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def metric_value(name: str, value: float) -> str:
    """A metric as it is written everywhere."""
    if math.isnan(value):
        return "unknown"
    if name == "accuracy":
        return f"{value:.1%}"
    if name in ("tokens", "pseudo_tokens"):
        return count(int(value))
    return f"{value:,.2f}" if name in ("perplexity", "pseudo_perplexity") else f"{value:.4f}"


def metrics_line(metrics: Mapping[str, float], names: Sequence[str]) -> str:
    """Those of `names` that are there, in one line: loss 2.3074  bits/byte 3.3289."""
    shown = (name for name in names if name in metrics)
    return "  ".join(f"{METRICS.get(name, (name,))[0]} {metric_value(name, metrics[name])}" for name in shown)


def metrics_table(metrics: Mapping[str, float], names: Sequence[str] | None = None) -> Table:
    """Metrics with a line on what each means.

    Args:
        names: which ones, in this order (default: all that `metrics` has).
    """
    table = bare_table(None, ("metric", "left"), ("value", "right"), ("what it means", "left"))
    for name in [*metrics] if names is None else names:
        if name in metrics:
            short, meaning = METRICS.get(name, (name, ""))
            table.add_row(Text(printable(short)), metric_value(name, metrics[name]), Text(meaning, style="dim"))
    return table


def result_table(result: Mapping[str, Any]) -> Table:
    """How a run ended; `result` is what `train_model` returns. What is null is left out."""
    table = bare_grid()
    for key, words in _RESULT_WORDS.items():
        if result.get(key) is not None:
            table.add_row(words, Text(_result_value(key, result[key])))
    if forecast := result.get("forecast"):
        table.add_row("against forecast", Text(against(forecast)))
    return table


def against(forecast: Mapping[str, Any]) -> str:
    """What a run took, each figure beside its forecast."""
    actual = forecast["actual"]
    words = {"memory": size, "step_seconds": "{:.3g} s".format, "cost": "{:.2f}".format}
    said = []
    for key, label in (("memory", "memory"), ("step_seconds", "a step"), ("cost", "cost")):
        was, before = actual[key], forecast[key]
        if was and before:
            said.append(f"{label} {words[key](was)}, {against_forecast(was, before, words[key](before))}")
    return "; ".join(said)


def _result_value(key: str, value: Any) -> str:
    if key == "stopped_by":
        return _STOPPED_BY.get(value, printable(str(value)))
    if key == "seconds":
        return duration(value)
    if isinstance(value, float):
        return f"{value:.4f}"
    return count(value) if isinstance(value, int) else printable(str(value))


class BareTable(Table):
    """A table without lines, whose rows end where their text does: what is copied or kept has no blanks at its end.

    Its title and its notes are as wide as the screen is; rich would break them at the width of the table.
    """

    heading: str | None = None
    notes: Sequence[str] = ()
    """Sentences below it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.heading:
            yield Text(self.heading, "bold")
        for line in Segment.split_lines(console.render(_Rows(self), options)):
            yield from _without_end(line)
            yield Segment.line()
        yield from (Unbroken(note, "dim") for note in self.notes)


@dataclass(frozen=True)
class _Rows:
    """Of a table what rich draws."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        return Table.__rich_console__(self.table, console, options)


def _without_end(line: Sequence[Segment]) -> list[Segment]:
    """The segments of a line without the blanks at its end."""
    kept = [*line]
    while kept and not (text := kept[-1].text.rstrip(" ")):
        kept.pop()
    return [*kept[:-1], Segment(text, kept[-1].style)] if kept else []


def bare_table(title: str | None, *columns: tuple[str, Any], notes: Iterable[str] = ()) -> BareTable:
    """A table without lines, of columns (name, justify), with sentences below it."""
    table = BareTable(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.heading, table.notes = title, [*notes]
    for name, justify in columns:
        table.add_column(name, justify=justify, header_style="dim", overflow="fold")
    return table


def bare_grid(title: str | None = None) -> BareTable:
    """A table of labels and what stands for each."""
    table = BareTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.heading = title
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


_PASTED = re.compile(r"\{[^{}]*\}")
_HELD = "\ue000"  # stands for a blank that no line may end at; no text of ours has it


class Unbroken:
    """A sentence that is broken at the width of the screen, but not within `{what: is, to: be pasted}`."""

    def __init__(self, text: str, style: str = "") -> None:
        self._text, self._style = text, style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        held = _PASTED.sub(lambda found: found[0].replace(" ", _HELD), self._text)
        for line in Text(held).wrap(console, options.max_width):
            yield Text(line.plain.rstrip().replace(_HELD, " "), self._style, no_wrap=True)
