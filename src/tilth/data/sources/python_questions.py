"""Questions about the standard library, with answers from its docstrings: conversations to tune a small model on.

    list_questions(source) -> [Input]   the modules of `python_docs`
    read_questions(intake) -> outcomes  question:textwrap.dedent#purpose-1
                                        "What does textwrap.dedent do?" / "Remove any common leading whitespace from …"
                                        question:textwrap.dedent#parameters-1
                                        "What are the parameters of textwrap.dedent?" / "text"

A module, class or function is asked about in two of several wordings, chosen by a hash of its name; the answer is the
first sentence of what it says of itself, without the signature that some repeat there. What takes arguments is asked
for them once. What says nothing that could be an answer is dropped: `no_answer`, `short_answer`, `long_answer`.

`meta.group` is the file, as of the documents of `python_docs`: a source of the same name is divided as those are, so
that with the same `data.split` no question of validation is about a module that a model pretrained on them has read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tilth.core.random import derive_seed
from tilth.data.document import Outcome
from tilth.data.sources.docstrings import described, docstring
from tilth.data.sources.inputs import Input
from tilth.data.sources.intake import Intake, Note, without_surrogates
from tilth.data.sources.messages import rendered
from tilth.data.sources.python_docs import Source, list_modules, parsed

WORDINGS = {
    "module": ("What is the module {} for?", "What does the module {} do?", "Tell me about the module {}."),
    "class": ("What is {}?", "What is {} for?", "Tell me about {}."),
    "function": ("What does {} do?", "What is {} for?", "Tell me about {}."),
    "parameters": ("What are the parameters of {}?", "Which arguments does {} take?", "How is {} called?"),
}
_ASKED = {"parameters": 1}  # of the others two
SHORTEST, LONGEST = 3, 200
"""Words of an answer at least; characters of one at most."""
_SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!\betc)(?<!\bvs)[.!?][\"'`)]*(?=\s+[A-Z\"'`(*]|$)")


class _Subject(NamedTuple):
    """What is asked about: a kind of `WORDINGS`, its name as one would type it, and the answer."""

    kind: str
    name: str
    answer: str


def list_questions(source: str, folder: Path | None = None) -> list[Input]:
    """The modules to ask about, as `python_docs.list_modules` finds them."""
    found = (item for item in list_modules(source, folder) if item.kind == "module")
    return [replace(item, kind="questions") for item in found]


def read_questions(intake: Intake) -> Iterator[Outcome]:
    """The conversations of one file that `list_questions` gave."""
    source = parsed(intake)
    if isinstance(source, Outcome):
        yield source
        return
    intake.meta = {"group": source.path}
    seen = set[str]()
    for subject in _subjects(source):
        place = f"question:{subject.name}#{subject.kind}"
        if place in seen:  # defined twice, by platform: the first is documented as well as the second
            continue
        seen.add(place)
        yield from _asked(intake, subject, place)
    if not seen:
        yield intake.drop(intake.item.locator, Note("no_answer", "", f"{source.path} documents nothing that is public"))


def _subjects(source: Source) -> Iterator[_Subject]:
    if about := docstring(source.tree):
        yield _Subject("module", source.module, first_sentence(about))
    for one in described(source.tree):
        name = f"{source.module}.{one.name}"
        if one.text:
            said = first_sentence(one.text, one.name.rpartition(".")[2])
            yield _Subject("class" if one.is_class else "function", name, said)
        if one.arguments:
            yield _Subject("parameters", name, one.arguments)


def _asked(intake: Intake, subject: _Subject, place: str) -> Iterator[Outcome]:
    if (fault := _fault(subject, place)) is not None:
        yield intake.drop(place, fault)
        return
    wordings = WORDINGS[subject.kind]
    first = derive_seed(0, f"question/{place}") % len(wordings)
    for number in range(_ASKED.get(subject.kind, 2)):
        question = wordings[(first + number) % len(wordings)].format(subject.name)
        answer, lone = without_surrogates(subject.answer.replace("\0", ""), place)
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        meta = {"messages": messages}
        yield intake.from_text(f"{place}-{number + 1}", rendered(messages), *lone, meta=meta)


def _fault(subject: _Subject, place: str) -> Note | None:
    """Why an answer is none."""
    words = len(re.findall(r"[^\W\d_]+", subject.answer))
    if not words:
        return Note("no_answer", "", f"{place}: what it says of itself holds no word")
    if subject.kind != "parameters" and words < SHORTEST:
        return Note("short_answer", str(words), f"{place}: {subject.answer!r} says too little")
    if len(subject.answer) > LONGEST:
        return Note("long_answer", str(len(subject.answer)), f"{place}: more than {LONGEST} characters")
    return None


def first_sentence(text: str, name: str | None = None) -> str:
    """The first sentence of a docstring, on one line.

    Args:
        name: of the function: paragraphs that begin with its call (`wrap(text) -> lines`) are passed over.
    """
    call = re.compile(rf"[\w.\[\]]*\b{re.escape(name)}\(") if name else None
    for paragraph in re.split(r"\n\s*\n", text):
        said = " ".join(paragraph.split())
        if call is not None and call.match(said):
            continue
        end = _SENTENCE_END.search(said)
        return said[: end.end()] if end else said
    return ""
