"""How well a model that was tuned on questions answers those that were held out, before and after the tuning.

    questions_of(dataset, split) -> [Pair]     the questions of a split, each with its answer
    groups_of(dataset, split)                  what the documents of a split were made from
    measure(language_model, pairs, most)       loss of all answers; some of them written, with ROUGE-L

The model is asked as `tilth chat` asks it, and takes the likeliest token each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tilth.data.dataset import Dataset
from tilth.data.document import Document, read_tables, table_documents
from tilth.distributed.runtime import Runtime
from tilth.evaluation.answers import Pair, answer_batches, drawn, overlap
from tilth.evaluation.evaluator import evaluate
from tilth.generate.config import SamplingConfig
from tilth.generate.text import TextOptions
from tilth.jobs.forecasting.room import evaluation_errors
from tilth.jobs.load import LanguageModel
from tilth.jobs.talk import Talk
from tilth.tokenizer.chat import Dropped

ROWS = 32
LONGEST_ANSWER = 40
"""Tokens that the model may write for one."""


@dataclass(frozen=True)
class Answered:
    """What was measured, and what was written.

    Attributes:
        figures: loss, accuracy and tokens of all answers; rouge_l of those written; form_rouge_l, compared with the
            answer to another question of the same form.
        asked: the questions that the model was asked, and
        written: what it answered.
    """

    figures: dict[str, float]
    asked: list[Pair]
    written: list[str]


def questions_of(dataset: Dataset, split: str) -> list[Pair]:
    """The questions of a split with their answers; those of a `python_questions` source. Where a stage changed the text
    in a way that they cannot follow, there are none.
    """
    return [_pair(document) for document in _documents(dataset, split) if "messages" in document.meta]


def groups_of(dataset: Dataset, split: str) -> set[str]:
    """The groups of the documents of a split."""
    return {document.group for document in _documents(dataset, split)}


def _documents(dataset: Dataset, split: str) -> Iterator[Document]:
    for path in dataset.files(f"documents/{split}"):
        for table in read_tables(path):
            yield from table_documents(table)


def _pair(document: Document) -> Pair:
    question, answer = (message["content"] for message in document.meta["messages"])
    kind = document.locator.rpartition("#")[2].partition("-")[0]
    return Pair(document.locator, kind, document.group, question, answer)


def measure(language_model: LanguageModel, pairs: Sequence[Pair], most: int) -> Answered:
    """Loss over all answers, and what the model writes to `most` of the questions, always the same ones."""
    asked = drawn(pairs, most)
    written = _written(language_model, asked)
    own, form = overlap(asked, written)
    figures = _loss(language_model, pairs) | {"asked": len(asked), "rouge_l": own, "form_rouge_l": form}
    return Answered(figures, asked, written)


def _loss(language_model: LanguageModel, pairs: Sequence[Pair]) -> dict[str, float]:
    rows = [{"messages": [_message("user", pair.question), _message("assistant", pair.answer)]} for pair in pairs]
    with language_model.chat_encoder() as encoder:
        encoded = [one for one in encoder.encode(rows) if not isinstance(one, Dropped)]
    model = language_model.model
    batches = answer_batches(encoded, language_model.config.context_length, ROWS)
    with evaluation_errors():
        metrics = evaluate(model, batches, 0, Runtime(model.output_weight.device))
    return {"questions": len(encoded), "loss": metrics.loss, "accuracy": metrics.accuracy, "tokens": metrics.tokens}


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _written(language_model: LanguageModel, asked: Sequence[Pair]) -> list[str]:
    options = TextOptions(LONGEST_ANSWER, sampling=SamplingConfig(temperature=0.0))
    written = []
    with Talk(language_model, options) as talk:
        for pair in asked:
            talk.begin(None)
            written.append("".join(talk.answer(talk.ask(pair.question))).strip())
    return written
