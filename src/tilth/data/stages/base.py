"""What a stage of `clean:` is: options, a function over a batch of documents, and the version of its rules.

    Result                what a stage made of one document
    Kind                  a stage as the table of stages holds it
    each(function)        a function (text, options) -> Result, for a batch
    together(function)    a function (texts, options) -> [Result], for a batch

A stage is pure: the same documents and options give the same results, whatever stood before and whoever runs it. A
document's result never depends on its neighbours in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tilth.core.config import Config
from tilth.data.document import Document

Number = int | float


class Result(NamedTuple):
    """What a stage made of a document.

    Attributes:
        text: the text; None drops the document.
        value: the size of the change, or the figure that broke the rule.
        rule: the rule of the verdict, for a stage that has several; its own name otherwise.
        also: further (rule, value) that changed the same document.
        meta: what is added to the document's `meta`.
        spans: the document becomes several, each a (start, end) of characters of `text`; empty: it stays one.
    """

    text: str | None
    value: Number = 0
    rule: str = ""
    also: tuple[tuple[str, Number], ...] = ()
    meta: Mapping[str, Any] = {}
    spans: tuple[tuple[int, int], ...] = ()


Run = Callable[[Sequence[Document], Any], list[Result]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A stage: its options, what it does, and a version that is raised when the same document gets another result."""

    options: type[Config]
    run: Run
    version: int = 1
    libraries: tuple[str, ...] = ()
    """Packages whose version decides the result too."""
    over: Literal["text", "messages", "lines"] = "text"
    """Of a conversation it looks at the whole `text`, which is all that it changes; or it rewrites each of its
    `messages`; or the `lines` of the whole, each of which stays where it is."""
    settles: bool = False
    """Whether the whole of a conversation is looked at once more after its `messages` were rewritten: some things show
    only where messages meet. For a stage that leaves its own work (a mask) as it is."""


class NoOptions(Config):
    """For a stage that has nothing to set."""


def each(function: Callable[[str, Any], Result]) -> Run:
    """A stage that looks at one text at a time."""

    def run(documents: Sequence[Document], options: Any) -> list[Result]:
        return [function(document.text, options) for document in documents]

    return run


def together(function: Callable[[Sequence[str], Any], list[Result]]) -> Run:
    """A stage that looks at the texts of a batch at once."""

    def run(documents: Sequence[Document], options: Any) -> list[Result]:
        return function([document.text for document in documents], options)

    return run
