"""Conversations to ids, and which of them are trained: right to the token.

    ChatConfig                               the recipe's `data.chat`
    ChatEncoder(tokenizer, template)         a context manager: it keeps a process that renders (renderer.py)
        .encode(rows, train_on)              a batch of conversations to EncodedChat or Dropped, in order
        .prompt(messages)                    the ids that a model is given to answer
        .stop_ids()                          the ids that end an answer
        .render(messages)                    the text, as transformers writes it
    encode_chat(tokenizer, template, …)      one conversation, without ceremony
    encode_completions(tokenizer, pairs)     prompt + completion + end-of-text, for models without a template

    conversation.py  what a conversation must be       rendering.py      template and messages to text, answers found
    templates/       built-in ones, a checkpoint's     render_worker.py  the process that does it
    marks.py         data and template kept apart      renderer.py       the parent's side of it
    sandbox.py       the Jinja2 of templates           ends.py           where answers end that messages follow
    calls.py         calls in a template's own form   left_out.py      what a template writes nothing of
    unasked.py       generation prompts nobody asked   thoughts.py      thoughts, and what is lost
    writing.py       a compiled template at work

The ids are those of the whole rendered text, with special tokens where the template wrote them and nowhere else: a user
who spells `<|im_end|>` gets plain text. Trained is each answer with the token that ends it, not what a template writes
around it. What cannot be used is Dropped, with a rule and a detail, for the ledger.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from tilth.core.errors import DataError
from tilth.tokenizer.base import Tokenizer
from tilth.tokenizer.chat_config import TODAY, ChatConfig, TrainOn
from tilth.tokenizer.conversation import Dropped
from tilth.tokenizer.marks import ALIAS, Marked, alias_place, plain
from tilth.tokenizer.renderer import MEMORY, SECONDS, Mode, Renderer
from tilth.tokenizer.templates import ChatTemplate
from tilth.tokenizer.thoughts import UNSAID, Lost

__all__ = [
    "ChatConfig",
    "ChatEncoder",
    "ChatTemplate",
    "Dropped",
    "EncodedChat",
    "encode_chat",
    "encode_completions",
]

AnswerT = TypeVar("AnswerT")
_BATCH_CHARACTERS = 1 << 20  # what the engine is given at a time
_PROBE = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
_THINKING = [_PROBE[0], {**_PROBE[1], "reasoning_content": "Well"}]
_TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks.",
        "parameters": {"type": "object", "properties": {"at": {"type": "string", "description": "What"}}},
    },
}


def _calling(count: int) -> dict[str, Any]:
    """A conversation that ends with so many calls."""
    function = {"name": "look", "arguments": {"at": "you"}}
    calls = [{"id": f"abcdefgh{place}", "type": "function", "function": function} for place in range(count)]
    return {"messages": [_PROBE[0], {"role": "assistant", "content": "", "tool_calls": calls}], "tools": [_TOOL]}


_PROBES = [{"messages": messages} for messages in (_PROBE, _PROBE * 2, _THINKING)]
_CALLS = [_calling(1), _calling(2)]


class EncodedChat(NamedTuple):
    """A conversation as a model reads it.

    Attributes:
        ids: [T] uint32.
        trained: [T] bool: whether the token is one that the model is to learn to write.
        ended: whether a special token ends what is trained; without one the model would not learn to stop.
        lost: the thoughts of answers that the template wrote nothing of.
        unsaid: the answers of whose content it wrote nothing.
    """

    ids: npt.NDArray[np.uint32]
    trained: npt.NDArray[np.bool_]
    ended: bool
    lost: Lost | None = None
    unsaid: Lost | None = None


class ChatEncoder:
    """Encodes conversations for one tokenizer by one template; close it, or use it as a context manager.

    Args:
        tokenizer: any.
        template: from `choose_template`.
        variables: further variables of the template.
        today: the date that a template may write.
        seconds: processor time for one conversation; a template that takes more is an error.
        memory: bytes of address space of the process that renders.

    Not for several threads at a time.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        *,
        variables: Mapping[str, Any] | None = None,
        today: datetime.date = TODAY,
        seconds: float = SECONDS,
        memory: int = MEMORY,
    ) -> None:
        self.tokenizer, self.template = tokenizer, template
        seen = {**tokenizer.named_tokens, **(variables or {})}
        names = tokenizer.added_names
        self.renderer = Renderer(template.name, template.source, names, seen, today, seconds, memory)

    def __enter__(self) -> ChatEncoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process that renders."""
        self.renderer.close()

    @property
    def missing_tokens(self) -> list[str]:
        """Special tokens that the built-in template writes and the tokenizer lacks: `with_special_tokens` adds them."""
        return [name for name in self.template.special_tokens if name not in self.tokenizer.special_tokens]

    def encode(
        self,
        rows: Sequence[Mapping[str, Any]],
        train_on: TrainOn = "answers",
        called: Sequence[str] | None = None,
    ) -> list[EncodedChat | Dropped]:
        """Ids and what is trained for each row ({messages, tools, documents}), or why it cannot be used; in order.

        Args:
            called: what errors call each row; by its place in `rows` where nothing is said.

        Raises:
            DataError: the template runs away; names it, and the row.
        """
        encoded: list[EncodedChat | Dropped] = []
        for group in _groups(self.renderer.render(train_on, rows, called)):
            marked = [_marked(answer, train_on) for answer in group if not isinstance(answer, Dropped)]
            labels = iter(self.tokenizer.encode_marked(marked))
            encoded += [
                answer if isinstance(answer, Dropped) else EncodedChat(*next(labels), answer["ended"], *_lost(answer))
                for answer in group
            ]
        return encoded

    def prompt(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None) -> list[int]:
        """The ids that a model is given to answer: the conversation, and the beginning of an answer.

        Raises DataError when the template has no rendering of it.
        """
        answer = self._only("prompt", messages, tools)
        ids: list[int] = self.tokenizer.encode_marked([Marked(answer["text"], [])])[0].ids.tolist()
        return ids

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None = None,
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        """The text of a conversation; DataError when the template has no rendering of it."""
        return str(self._only("text_prompt" if add_generation_prompt else "text", messages, tools)["text"])

    def stop_ids(self) -> set[int]:
        """The ids that end an answer: end-of-text, and those that the template writes at an answer's end, be it the
        last of a conversation or not, and at a call's, for what it calls answers next; but none behind which an answer
        goes on, as behind its thoughts (gpt-oss) or a call of several.
        """
        # gpt-oss ends an earlier answer, and any thought, with `<|end|>`: it ends a message there, and who stopped at
        # it would never see what was thought about. Its `<|return|>` and `<|call|>` end what is written.
        ends, within = self._ends_of(self.renderer.render("answers", _PROBES))
        called, within_calls = set[int](), set[int]()
        for probe in _CALLS:
            # Not all that runs away with tools does so without them, and nobody has asked for any yet.
            with contextlib.suppress(DataError):
                more, inside = self._ends_of(self.renderer.render("answers", [probe]))
                called |= more
                within_calls |= inside
        # What stands within an answer with calls may well end a plain one: GigaChat writes a call as a message apart.
        return {self.tokenizer.end_of_text} | (ends - within) | (called - within_calls - within)

    def _ends_of(self, answers: Iterable[Any]) -> tuple[set[int], set[int]]:
        """The ids that end what is rendered as answers, and those behind which one goes on."""
        specials = list(self.tokenizer.special_tokens.values())
        ends, within = set[int](), set[int]()
        for answer in answers:
            if isinstance(answer, Dropped):
                continue
            for start, end in answer["spans"]:
                said = answer["text"][start:end].rstrip()
                for token in ALIAS.finditer(said):
                    rest = ALIAS.sub("", said[token.end() :]).strip()
                    to = within if rest else ends if token.end() == len(said) else set()
                    to.add(specials[alias_place(token[0])])
        return ends, within

    def _only(self, mode: Mode, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None) -> dict[str, Any]:
        answer = next(self.renderer.render(mode, [{"messages": list(messages), "tools": tools and list(tools)}]))
        return _usable(answer, self.template)


def encode_chat(
    tokenizer: Tokenizer, template: ChatTemplate, messages: Sequence[Mapping[str, Any]], train_on: TrainOn = "answers"
) -> EncodedChat:
    """One conversation; DataError, naming the rule, when it cannot be used. `ChatEncoder` takes many."""
    with ChatEncoder(tokenizer, template) as encoder:
        return _usable(encoder.encode([{"messages": list(messages)}], train_on)[0], template)


def encode_completions(
    tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], train_on: TrainOn = "answers"
) -> list[EncodedChat | Dropped]:
    """Prompt, completion and end-of-text as one text, the completion and the end trained.

    The tokenizer's own opening (bos) stands before it. A token that reaches from the prompt into the completion is
    trained. Dropped as `empty_answer` where the completion is empty or white space.
    """
    pairs = [(plain(prompt), plain(completion)) for prompt, completion in pairs]
    marked = [Marked(prompt + completion, [(len(prompt), len(prompt + completion))]) for prompt, completion in pairs]
    framed = (_framed(tokenizer, *label, train_on) for label in tokenizer.encode_marked(marked))
    empty = Dropped("empty_answer", "the completion is empty")
    return [row if pair[1].strip() else empty for row, pair in zip(framed, pairs, strict=True)]


def _framed(
    tokenizer: Tokenizer, ids: npt.NDArray[np.uint32], trained: npt.NDArray[np.bool_], train_on: TrainOn
) -> EncodedChat:
    opening = np.array(tokenizer.opening, np.uint32)
    whole = np.concatenate([opening, ids, np.array([tokenizer.end_of_text], np.uint32)])
    if train_on == "all":
        return EncodedChat(whole, np.ones(len(whole), np.bool_), True)
    return EncodedChat(whole, np.concatenate([np.zeros(len(opening), np.bool_), trained, [True]]), True)


def _marked(answer: Mapping[str, Any], train_on: TrainOn) -> Marked:
    text = answer["text"]
    spans = [(0, len(text))] if train_on == "all" else [(start, end) for start, end in answer["spans"]]
    return Marked(text, spans)


def _lost(answer: Mapping[str, Any]) -> tuple[Lost | None, Lost | None]:
    lost = [Lost(*one) for one in answer["lost"]]
    thoughts, contents = ([one for one in lost if (one.rule == UNSAID) == unsaid] for unsaid in (False, True))
    return next(iter(thoughts), None), next(iter(contents), None)


def _groups(answers: Iterable[dict[str, Any] | Dropped]) -> Iterator[list[dict[str, Any] | Dropped]]:
    """Answers in groups of about `_BATCH_CHARACTERS`."""
    group: list[dict[str, Any] | Dropped] = []
    size = 0
    for answer in answers:
        group.append(answer)
        size += 0 if isinstance(answer, Dropped) else len(answer["text"])
        if size > _BATCH_CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _usable(answer: AnswerT | Dropped, template: ChatTemplate) -> AnswerT:
    if isinstance(answer, Dropped):
        raise DataError(
            f"the conversation cannot be used with the template {template.name}: {answer.rule}: {answer.detail}",
            "mend the messages, or choose another template (`data.chat.template`)",
        )
    return answer
