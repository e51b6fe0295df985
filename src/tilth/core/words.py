"""Figures as people say them, wherever tilth speaks.

duration(seconds) -> "2 min 42 s"
plural(2000, "document") -> "2,000 documents"
some(["a", "b"], 9) -> "a, b and 7 more"
left_out("list/unknown_suffix", ["a.srt"], 1): the same, and how text in such files is read
against_forecast(was, said, "678 MB") -> "23% above the forecast of 678 MB"
"""

from __future__ import annotations

from collections.abc import Sequence

from tilth.core.no_text import suffix_of, text_of_it


def duration(seconds: float) -> str:
    """`41.2 s`, `2 min 42 s`, `3 h 05 min`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def against_forecast(was: float, said: float, forecast: str) -> str:
    """How far what was lies from what had been said: what was is above or below, never the forecast.

    Args:
        was, said: both above 0, in one unit.
        forecast: `said` with its unit.
    """
    if was >= 3 * said:
        return f"{was / said:.1f} times the forecast of {forecast}"
    off = round(100 * (was / said - 1))
    return f"{abs(off)}% {'above' if off > 0 else 'below'} the forecast of {forecast}" if off else "as was forecast"


def plural(number: int, noun: str) -> str:
    """1 document, 2,000 documents."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def some(names: Sequence[str], number: int) -> str:
    """The first names of so many, and how many more there are."""
    more = f" and {number - len(names):,} more" if number > len(names) else ""
    return f"{', '.join(names)}{more}"


def left_out(rule: str, names: Sequence[str], number: int) -> str:
    """The first files that a rule left out, and what to do where they are text after all, or hold some."""
    if rule != "list/unknown_suffix":
        return some(names, number)
    made = {suffix_of(name): remedy for name in names if (remedy := text_of_it(name))}
    how = [f"of {suffix}: {remedy}" for suffix, remedy in made.items()]
    if not names or any(text_of_it(name) is None for name in names):
        how.append('text is read from such by a pattern: {path: "d/*.srt", format: text}')
    return "; ".join([some(names, number), *how])
