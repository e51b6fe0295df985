"""The helper that all stages are held to, tried on stages that break what it checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.data.stages.helpers import OneStage, check_the_contract, grows_linearly
from tilth.data.document import Document
from tilth.data.stages.base import Kind, NoOptions, Result

Run = Callable[[Sequence[Document], object], list[Result]]


def made(run: Run) -> OneStage:
    return OneStage("faulty", Kind(NoOptions, run), NoOptions())


def grows(documents: Sequence[Document], options: object) -> list[Result]:
    return [Result(document.text + "x", 1) for document in documents]


def looks_aside(documents: Sequence[Document], options: object) -> list[Result]:
    return [Result(document.text if len(documents) == 1 else None, 1) for document in documents]


def talks(documents: Sequence[Document], options: object) -> list[Result]:
    return [Result(document.text, also=(("talk", 1),)) for document in documents]


@pytest.mark.parametrize("run", [grows, looks_aside, talks])
def test_a_faulty_stage_is_found(run: Run) -> None:
    with pytest.raises(AssertionError):
        check_the_contract(made(run), ["a", "b"])


@pytest.mark.slow
def test_quadratic_time_is_found() -> None:
    def quadratic(documents: Sequence[Document], options: object) -> list[Result]:
        return [Result(document.text, sum(document.text.count("b") for _ in document.text)) for document in documents]

    assert not grows_linearly(made(quadratic), "a", 10_000)
