"""A stage over documents: what it leaves of each, and a verdict on each that it changed or dropped.

run_stage(stage, documents) -> [Outcomes]      one for each document, in order
clean(document, stages) -> (documents, verdicts)   all stages over one document
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from tilth.data.document import Document, Verdict, make_doc_id
from tilth.data.spoken import other_text, says_its_messages
from tilth.data.stages.base import Number, Result
from tilth.data.stages.messages import over_messages
from tilth.data.stages.table import Stage


class Outcomes(NamedTuple):
    """What a stage left of one document: none, itself (the same object when nothing changed), or its pieces."""

    documents: tuple[Document, ...]
    verdicts: tuple[Verdict, ...] = ()


def run_stage(stage: Stage, documents: Sequence[Document]) -> list[Outcomes]:
    """What a stage makes of a batch of documents."""
    spoken = [stage.kind.over != "text" and "messages" in d.meta and says_its_messages(d) for d in documents]
    results = _with_spoken(stage, documents, spoken) if any(spoken) else stage.kind.run(documents, stage.options)
    return [_outcomes(stage.name, document, result) for document, result in zip(documents, results, strict=True)]


def _with_spoken(stage: Stage, documents: Sequence[Document], spoken: Sequence[bool]) -> list[Result]:
    """The results where some of the documents are conversations."""
    pairs = list(zip(documents, spoken, strict=True))
    talks = iter(over_messages(stage, [document for document, own in pairs if own]))
    texts = iter(stage.kind.run([document for document, own in pairs if not own], stage.options))
    return [next(talks) if own else next(texts) for own in spoken]


def clean(document: Document, stages: Iterable[Stage]) -> Outcomes:
    """What all stages, one after another, leave of a document."""
    documents: tuple[Document, ...] = (document,)
    verdicts: list[Verdict] = []
    for stage in stages:
        outcomes = run_stage(stage, documents)
        documents = tuple(left for outcome in outcomes for left in outcome.documents)
        verdicts += [verdict for outcome in outcomes for verdict in outcome.verdicts]
    return Outcomes(documents, tuple(verdicts))


def _outcomes(name: str, document: Document, result: Result) -> Outcomes:
    text, rule = result.text, result.rule or name
    if text and text == document.text and not (result.also or result.meta or result.spans):
        return Outcomes((document,))  # most documents of most stages
    if not text:  # a stage may also leave nothing over, and nothing is no document
        return Outcomes((), (_verdict(document, rule, "dropped", result.value),))
    changed = text != document.text or bool(result.spans)
    verdicts = tuple(_verdict(document, name, "changed", value) for name, value in _changes(changed, rule, result))
    meta = {**document.meta, **result.meta} if result.meta else document.meta
    if not verdicts and meta == document.meta:
        return Outcomes((document,))
    left = other_text(replace(document, meta=meta), text, name)
    return Outcomes(_pieces(name, left, result.spans) if result.spans else (left,), verdicts)


def _verdict(document: Document, rule: str, verdict: str, value: Number) -> Verdict:
    shown = str(value) if isinstance(value, int) else f"{value:.4g}"
    return Verdict(document.doc_id, "clean", rule, verdict, shown, document.locator)  # type: ignore[arg-type]


def _changes(changed: bool, rule: str, result: Result) -> list[tuple[str, Number]]:
    return [*([(rule, result.value)] if changed else []), *result.also]


def _pieces(name: str, document: Document, spans: Sequence[tuple[int, int]]) -> tuple[Document, ...]:
    """The document cut up; its pieces are never parted by a split, and say what they are part of."""
    meta = {**document.meta, "group": document.group, "part_of": document.meta.get("part_of", document.doc_id)}
    pieces = []
    for start, end in spans:
        locator = f"{document.locator}#characters={start}-{end}"
        doc_id = make_doc_id(document.source, locator)
        piece = replace(document, doc_id=doc_id, locator=locator, meta=meta)
        pieces.append(other_text(piece, document.text[start:end], name))
    return tuple(pieces)
