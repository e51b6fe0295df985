"""A stage over texts, by the same way as in a run, without the table of stages; and what every stage must hold to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tilth.core.config import Config, parse
from tilth.data.document import Document
from tilth.data.stages.base import Kind
from tilth.data.stages.run import Outcomes, run_stage


@dataclass(frozen=True)
class OneStage:
    name: str
    kind: Kind
    options: Config


def stage(stages: dict[str, Kind], name: str, options: dict[str, Any] | None = None) -> OneStage:
    return OneStage(name, stages[name], parse(stages[name].options, options or {}))


def document(text: str, number: int = 0) -> Document:
    return Document(f"id{number}", text, "source", f"place:{number}")


def run(made: OneStage, texts: Sequence[str]) -> list[Outcomes]:
    return run_stage(made, [document(text, number) for number, text in enumerate(texts)])  # type: ignore[arg-type]


def texts_of(outcome: Outcomes) -> list[str]:
    return [left.text for left in outcome.documents]


def cleaned(made: OneStage, text: str) -> str | None:
    """The one text that is left, if any."""
    left = texts_of(run(made, [text])[0])
    assert len(left) <= 1
    return left[0] if left else None


def said(made: OneStage, text: str) -> list[tuple[str, str, str]]:
    return [(verdict.rule, verdict.verdict, verdict.value) for verdict in run(made, [text])[0].verdicts]


def check_the_contract(made: OneStage, texts: Sequence[str]) -> None:
    """What is done is said, what is said is done; neighbours do not count; twice is once."""
    together = run(made, texts)
    for text, outcome in zip(texts, together, strict=True):
        assert (texts_of(outcome) != [text]) == bool(outcome.verdicts)
        assert texts_of(run(made, [text])[0]) == texts_of(outcome)
        for left in texts_of(outcome):
            again = run(made, [left])[0]
            assert texts_of(again) == [left] and again.verdicts == ()


def seconds(made: OneStage, text: str) -> float:
    start = time.process_time()
    (outcome,) = run(made, [text])
    assert not any(verdict.rule.endswith("/timeout") for verdict in outcome.verdicts)
    return time.process_time() - start


def grows_linearly(made: OneStage, unit: str, characters: int = 2_500_000) -> bool:
    """Four times the text takes about four times as long: sixteen times would be quadratic."""
    run(made, [unit])  # what is made once in a process
    short, long = (unit * (size // len(unit)) for size in (characters, 4 * characters))
    base = max(min(seconds(made, short) for _ in range(2)), 0.02)  # the least: other work on the machine only adds
    return any(seconds(made, long) < 11 * base for _ in range(5))  # the longer one leaves the cache
