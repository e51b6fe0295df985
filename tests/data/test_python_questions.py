"""Questions about the standard library: to the letter, and divided as its documentation is."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from tests.data.test_python_docs import library
from tilth.data.document import Document, Outcome
from tilth.data.sources import SourceConfig, list_inputs, read_input
from tilth.data.sources.python_questions import LONGEST, WORDINGS, first_sentence, list_questions

CONFIG = SourceConfig(builtin="python_questions", name="python_docs")
NAMED = {f"module:{name}.py" for name in ("textwrap", "json/__init__", "json/decoder")}


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """Of a quarter of the modules, and those that the tests name."""
    items = list(list_inputs(CONFIG, Path(), Path()))
    some = {item.locator: item for item in items[::4]} | {i.locator: i for i in items if i.locator in NAMED}
    return [o for item in some.values() for o in read_input(item, CONFIG)]


@pytest.fixture(scope="module")
def documents(outcomes: list[Outcome]) -> dict[str, Document]:
    return {o.document.locator: o.document for o in outcomes if o.document}


def asked(documents: dict[str, Document], place: str) -> dict[str, str]:
    """Questions about a place, with their answers."""
    found = [d.meta["messages"] for locator, d in documents.items() if locator.rpartition("-")[0] == place]
    return {question["content"]: answer["content"] for question, answer in found}


def test_answers_are_what_python_says_of_itself(documents: dict[str, Document]) -> None:
    said = inspect.getdoc(textwrap.dedent)
    assert said is not None
    about = asked(documents, "question:textwrap.dedent#function")
    assert len(about) == 2 and set(about) <= {w.format("textwrap.dedent") for w in WORDINGS["function"]}
    assert set(about.values()) == {said.partition("\n")[0]}
    (taken,) = asked(documents, "question:json.dumps#parameters").values()
    assert [part.partition("=")[0] for part in taken.split(", ")[:2]] == ["obj", "*"]
    assert list(inspect.signature(json.dumps).parameters)[1] == taken.split(", ")[2].partition("=")[0]
    module = asked(documents, "question:textwrap#module")
    assert set(module.values()) == {"Text wrapping and filling."}


def test_it_is_a_corpus_of_conversations(outcomes: list[Outcome], documents: dict[str, Document]) -> None:
    kinds = Counter(locator.rpartition("#")[2].partition("-")[0] for locator in documents)
    assert set(kinds) == set(WORDINGS) and min(kinds.values()) > 50 and kinds["function"] > 1000
    assert len(documents) == sum(o.document is not None for o in outcomes), "no locator twice"
    for document in documents.values():
        question, answer = document.meta["messages"]
        assert [question["role"], answer["role"]] == ["user", "assistant"]
        assert 0 < len(answer["content"]) <= LONGEST and "\n" not in answer["content"]
    rules = {v.rule for o in outcomes if o.document is None for v in o.verdicts}
    assert rules == {"no_answer", "short_answer", "long_answer"}, "what gives no answer is dropped by name"


def test_modules_are_grouped_as_in_the_documentation(documents: dict[str, Document]) -> None:
    docs = SourceConfig(builtin="python_docs")
    items = [item for item in list_inputs(docs, Path(), Path()) if item.locator in ("module:json/decoder.py",)]
    (group,) = {(o.document.source, o.document.group) for i in items for o in read_input(i, docs) if o.document}
    ours = {(d.source, d.group) for d in documents.values() if d.locator.startswith("question:json.decoder.")}
    assert ours == {group} == {("python_docs", "json/decoder.py")}


def test_a_small_library_is_read_to_the_letter(tmp_path: Path) -> None:
    source = '''
def area(a, b=1):
    """area(a, b) -> number

    Return the area, e.g. of a field. It is a product.
    """
class Field:
    """Holds what grows here."""
    def __init__(self, rows, *, sown=False): "Rain."
    def water(self): "Water all the rows!"
if True:
    def area(a): "Another area of the same."
def short(): "Too short."
'''
    (library(tmp_path) / "farm.py").write_text(source)
    found = [o for i in list_questions("docs", tmp_path) if "farm" in i.locator for o in read_input(i, CONFIG)]
    made = [(o.document.locator, [m["content"] for m in o.document.meta["messages"]]) for o in found if o.document]
    answers: dict[str, set[str]] = {}
    for locator, (question, answer) in made:
        place = locator.rpartition("-")[0]
        name, _, kind = place.removeprefix("question:").partition("#")
        assert question in {wording.format(name) for wording in WORDINGS[kind]}
        answers.setdefault(place, set()).add(answer)
    assert answers == {
        "question:farm.area#function": {"Return the area, e.g. of a field."},
        "question:farm.area#parameters": {"a, b=1"},
        "question:farm.Field#class": {"Holds what grows here."},
        "question:farm.Field#parameters": {"rows, *, sown=False"},
        "question:farm.Field.water#function": {"Water all the rows!"},
    }
    dropped = {v.detail: v.rule for o in found if o.document is None for v in o.verdicts}
    assert dropped == {"question:farm.short#function: 'Too short.' says too little": "short_answer"}


def test_files_without_an_answer_are_said(tmp_path: Path) -> None:
    items = list_questions("docs", library(tmp_path))
    rules = {i.locator: {v.rule for o in read_input(i, CONFIG) for v in o.verdicts} for i in items}
    assert rules["module:broken.py"] == {"unparsable"}
    assert rules["module:plain.py"] == rules["module:pack/__init__.py"] == {"no_answer"}
    assert not any(i.locator == "topics" for i in items)


@pytest.mark.parametrize(
    ("text", "name", "sentence"),
    [
        ("One thing.  Another.", None, "One thing."),
        ("Wraps\n  'text' (see PEP 8). More.", None, "Wraps 'text' (see PEP 8)."),
        ("No end of it", None, "No end of it"),
        ("As in 3.5 or i.e. Rain. Then", None, "As in 3.5 or i.e. Rain."),
        ("f(x) -> y\n\nDoes it.", "f", "Does it."),
        ("D.pop(k[,d]) -> v, remove it.\n\nReturns v.", "pop", "Returns v."),
        ("f(x) -> y", "f", ""),
    ],
)
def test_first_sentences(text: str, name: str | None, sentence: str) -> None:
    assert first_sentence(text, name) == sentence
