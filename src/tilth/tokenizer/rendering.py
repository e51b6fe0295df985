"""A chat template and a conversation to text; runs in the process that render_worker.py is, never in the trainer's.

    Rendering(template, names, …)     one template for one tokenizer
        .text(row)                    as transformers' apply_chat_template writes it
        .prompt(row)                  up to where the answer is to begin, special tokens as aliases
        .training(row, need_answer)   the whole conversation, and where its answers are
    Dropped                           a conversation that cannot be used

Templates are Jinja2 as Hugging Face's are (sandbox.py). Nothing is random, and `strftime_now` reads a date that the
caller gives.

Where the answers are: between the marks of `{% generation %}` where the template has it. Else by renderings of the
conversation's beginnings: an answer begins where the prompt for it ends (the messages before it, with the generation
prompt), and ends with the last special token that the template writes after it; of an answer that more messages follow,
the last that it writes there too (ends.py). Where the whole has less before an answer, or of it, than its beginnings
have (no thoughts), the same is told by the whole with another content in the answer's place.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

from tilth.tokenizer.calls import in_form
from tilth.tokenizer.conversation import THOUGHTS, Dropped, Row, checked, is_learned, seen
from tilth.tokenizer.ends import Ends, common
from tilth.tokenizer.left_out import SYSTEM, LeftOut
from tilth.tokenizer.marks import ALIAS, ALIAS_LENGTH, BREAK, HERE, Marked, Marker, Names
from tilth.tokenizer.thoughts import Lost, spoken
from tilth.tokenizer.unasked import unasked
from tilth.tokenizer.writing import RunawayError, Writer, switches

_PROBE = {"role": "assistant", "content": HERE}
_ASKED = {"role": "user", "content": BREAK}
_NOTHING_BEFORE = "the assistant speaks first, and the template cannot be written with nothing before it"
_UNTOLD = "which of the stretches that it marks is an answer of weight 0 cannot be told"
Spans = list[tuple[int, int]]


_SMALL = 10_000
"""Characters of a row that is rendered once more to say what would mend it; a long one would use up its time."""


class Answers(NamedTuple):
    """A rendered conversation for training: a Marked text, whether its last answer ends with a special token, and
    what of its answers is not in it.
    """

    text: str
    spans: Spans
    ended: bool
    lost: list[Lost]


class Rendering:
    """One template, compiled, for one tokenizer's special tokens.

    Args:
        template: the Jinja2 source.
        names: the tokenizer's added tokens.
        variables: what the template sees besides the conversation: `bos_token`, `eos_token`, options of its own.
        today: the date that `strftime_now` reads.

    Raises RunawayError when the template does not compile.
    """

    def __init__(self, template: str, names: Names, variables: Mapping[str, Any], today: datetime.date) -> None:
        self._marker = Marker(names)
        self._writer = Writer(template, self._marker, variables, today)
        self._written = self._writer.written
        self._ends = Ends(self._marker, self._tried)
        self._left_out = LeftOut(self._marker, self._written)
        self._always = dict[tuple[bool, bool], str | Dropped]()  # see _unasked
        self._given = (template, names, variables, today)
        self._others: list[tuple[str, Rendering]] | None = None  # see _with_way

    def text(self, row: Row, prompt: bool) -> str | Dropped:
        """The rendering, without any mark; with the generation prompt on request."""
        raw = self._whole(row, prompt)
        return raw if isinstance(raw, Dropped) else self._marker.text(raw)

    def prompt(self, row: Row) -> Marked | Dropped:
        """What a model is given to answer the conversation."""
        if fault := checked(row.messages, False):
            return fault
        told = self._told(row)
        marked = self._marked(told)
        raw = self._written(marked, len(row.messages), True)
        if isinstance(raw, Dropped):
            return raw
        return self._left_out.refused(told, marked, raw, True) or Marked(self._marker.read(raw).text, [])

    def _whole(self, row: Row, prompt: bool) -> str | Dropped:
        fault = checked(row.messages, False)
        return fault or self._written(self._marked(self._told(row)), len(row.messages), prompt)

    def training(self, row: Row, need_answer: bool) -> Answers | Dropped:
        """The conversation and its answers; Dropped with the rule that says why there are none to train on."""
        found = self._training(row, need_answer)
        return self._with_way(found, row, need_answer) if isinstance(found, Dropped) else found

    def _with_way(self, fault: Dropped, row: Row, need_answer: bool) -> Dropped:
        """The fault, with the variable of the template by which there is none: where its prompt closes the thoughts
        before an answer that has some, another value opens them (`enable_thinking`).
        """
        # Rows of any size are looked at alike, whichever came before: what is said of one must not hang on the others.
        if fault.rule != "rewritten" or sum(len(str(message)) for message in row.messages) > _SMALL:
            return fault
        template, names, variables, today = self._given
        if self._others is None:
            self._others = [
                (f"{name}: {str(value).lower()}", Rendering(template, names, {**variables, name: value}, today))
                for name, value in switches(template, variables, today)
            ]
        for said, other in self._others:
            try:
                found = other._training(row, need_answer)
            except RunawayError:
                continue
            if not isinstance(found, Dropped):
                return fault._replace(detail=f"{fault.detail}; with data.chat.variables: {{{said}}} it does not")
        return fault

    def _training(self, row: Row, need_answer: bool) -> Answers | Dropped:
        fault = checked(row.messages, need_answer)
        if fault is not None:
            return fault
        told = self._told(row)
        marked = self._marked(told)
        raw = self._written(marked, len(row.messages), False)
        if isinstance(raw, Dropped):
            return raw
        if fault := self._left_out.refused(told, marked, raw, False):
            return fault
        unlearned = {place for place, message in enumerate(row.messages) if need_answer and not is_learned(message)}
        spans = [] if self._writer.has_marks or not need_answer else self._by_beginnings(marked, raw, unlearned)
        if isinstance(spans, Dropped):
            return spans
        read = self._marker.read(raw, spans)
        learned = self._learned(told, marked, read.spans, unlearned) if self._writer.has_marks else read.spans
        if isinstance(learned, Dropped):
            return learned
        if need_answer and not learned:
            return Dropped("no_answer", "the template marks none of the answers by {% generation %}")
        ended = bool(learned) and _ends_special(read.text, learned[-1])
        return Answers(read.text, learned, ended, self._left_out.lost(told, marked, raw, unlearned))

    def _learned(self, told: Row, marked: Row, spans: Spans, unlearned: set[int]) -> Spans | Dropped:
        """The stretches that the template marks without those of answers that are not to be learned."""
        held = self._left_out.answers(told, marked) if unlearned else [set() for _ in spans]
        if isinstance(held, Dropped):
            return held
        mixed = any(places & unlearned and places - unlearned for places in held)
        if len(held) != len(spans) or mixed or unlearned - set[int]().union(*held):
            return Dropped("template", _UNTOLD)
        return [span for span, places in zip(spans, held, strict=True) if not places & unlearned]

    def _by_beginnings(self, row: Row, raw: str, unlearned: set[int]) -> Spans | Dropped:
        unasked, spans = self._unasked(row), list[tuple[int, int]]()
        if isinstance(unasked, Dropped):
            return unasked
        raw = raw.removesuffix(unasked)
        for place, message in enumerate(row.messages):
            if message["role"] == "assistant" and place not in unlearned:
                span = self._span(row, raw, place, spans[-1][1] if spans else 0)
                if isinstance(span, Dropped):
                    return span
                spans.append(span)
        return spans

    def _span(self, row: Row, raw: str, place: int, after: int) -> tuple[int, int] | Dropped:
        """Where the answer stands in the whole, which `alone`, the conversation up to it, says."""
        start = self._start(row, raw, place)
        alone = self._tried(row, place + 1, False) if place + 1 < len(row.messages) else raw
        if isinstance(start, Dropped):
            return start
        if isinstance(alone, Dropped):
            return alone
        end = self._ends.last(alone, min(start, len(alone)))
        if end <= start:
            return Dropped("template", f"the template writes nothing of answer {place}")
        if place + 1 < len(row.messages):
            end = self._ends.within(row, raw, place, start, alone) or self._later_end(row, raw, place, start)
        if not after <= start < end:
            return Dropped("rewritten", f"the template writes answer {place} differently once more messages follow")
        return start, end

    def _later_end(self, row: Row, raw: str, place: int, start: int) -> int:
        """The end of an answer before which, or of which, the template writes less once more messages follow (no
        thoughts): its content ends before what is written behind any content there. 0 where that is not what it says.
        """
        message, behind = row.messages[place], row.messages[place + 1 :]
        probe = {key: value for key, value in message.items() if key not in THOUGHTS} | {"content": HERE}
        whole, alone = (self._around(row, [*row.messages[:place], probe, *more]) for more in (behind, []))
        if whole is None or alone is None or not raw.endswith(whole[1]):
            return 0
        content, at = message.get("content"), len(raw) - len(whole[1])
        if isinstance(content, str) and spoken(content) not in raw[start : max(start, at)]:
            return 0
        return self._ends.within(row, raw, place, start, raw[:at] + alone[1])

    def _start(self, row: Row, raw: str, place: int) -> int | Dropped:
        """Where the answer begins: behind the prompt for it."""
        prompt = self._tried(row, place, True)
        if isinstance(prompt, Dropped):
            return prompt if place else Dropped("no_prompt", f"{_NOTHING_BEFORE}: {prompt.detail}")
        if raw.startswith(prompt):
            return max(len(prompt), self._first_start(row, raw, place, prompt))
        # The generation prompt may say more than the history does (an opened <think>), and so may the answers before it
        # (their thoughts). What is written before any answer there is found by one that no prompt holds.
        # It is written with the messages behind it first: templates may write thoughts for the last answers only.
        more = row.messages[place + 1 :]
        asks = next((n for n, message in enumerate(more) if message["role"] == "user"), len(more))
        for behind in (more, more[asks:], []):
            answered = self._around(row, [*row.messages[:place], _PROBE, *behind])
            held = not place or (answered is not None and prompt.startswith(answered[0]))
            own = "" if held else self._own(row, place, behind)
            if answered is None or own is None or not answered[0].endswith(own):
                continue
            header = answered[0].removesuffix(own)
            # What begins a conversation may be written with its first message (Llama 3): no prompt without one has it.
            if raw.startswith(header) and (place or header.endswith(prompt) or prompt.startswith(header)):
                return len(header)
        return Dropped("rewritten", f"the template writes what stands before answer {place} differently afterwards")

    def _own(self, row: Row, place: int, behind: list[dict[str, Any]]) -> str | None:
        """What the template writes before an answer's content and in no prompt for it: whatever stands before the
        message before it, behind that message both are the same up to there.
        """
        before = [*row.messages[: place - 1], {**row.messages[place - 1], "content": HERE}]
        asked, answered = self._around(row, before, True), self._around(row, [*before, _PROBE, *behind])
        if asked is None or answered is None or HERE not in answered[1]:
            return None
        opening = answered[1].partition(HERE)[0]
        same = common(opening, asked[1])
        cut = (found.start for found in self._marker.specials(opening) if found.start <= same < found.end)
        at = next(cut, same)
        return None if opening[at:].strip() and asked[1][at:].strip() else opening[at:]

    def _around(self, row: Row, messages: list[dict[str, Any]], prompt: bool = False) -> tuple[str, str] | None:
        """What the template writes before and behind the first content that is `HERE`."""
        raw = self._tried(row._replace(messages=messages), len(messages), prompt)
        before, here, behind = ("", "", "") if isinstance(raw, Dropped) else raw.partition(HERE)
        return (before, behind) if here else None

    def _first_start(self, row: Row, raw: str, place: int, prompt: str) -> int:
        """Where an answer begins that no question stands before (the first one, or one behind another), if the template
        writes generation prompts behind others only: as far before its content as behind a question. 0 where this is
        not so, or cannot be seen.
        """
        before = row.messages[:place]
        opens = all(message["role"] in SYSTEM for message in before)
        if prompt != self._tried(row, place, False) if opens else before[-1]["role"] != "assistant":
            return 0
        asked = row._replace(messages=[*before, _ASKED, _PROBE])
        first = self._tried(row._replace(messages=[*before, _PROBE]), place + 1, False)
        known, answered = self._tried(asked, place + 1, True), self._tried(asked, place + 2, False)
        if isinstance(first, Dropped) or isinstance(known, Dropped) or isinstance(answered, Dropped):
            return 0
        own = answered[common(known, answered) : answered.rfind(HERE)]  # written for the answer, behind its prompt
        header = first[: max(0, first.rfind(HERE))]
        start = len(header) - len(own)
        return start if header.endswith(own) and raw.startswith(header[:start]) else 0

    def _told(self, row: Row) -> Row:
        """The row as the template is to see it, before it is marked."""

        def render(messages: list[dict[str, Any]]) -> str | Dropped:
            return self._written(self._marked(row._replace(messages=messages)), len(messages), False)

        def bare(raw: str) -> str:
            return "".join(ALIAS.sub("", self._marker.read(raw).text).split())

        return row._replace(messages=in_form(seen(row.messages), render, bare))

    def _marked(self, row: Row) -> Row:
        mark = self._marker.mark
        return row._replace(messages=mark(row.messages), tools=mark(row.tools), documents=mark(row.documents))

    def _unasked(self, row: Row) -> str | Dropped:
        """The generation prompt that the template writes unasked: looked for once with tools, with documents, without,
        since templates have a branch, or a whole template, for each (Command R7B).
        """
        given = bool(row.tools), bool(row.documents)
        if given not in self._always:
            self._always[given] = unasked(self._writer, self._marker, row)
        return self._always[given]

    def _tried(self, row: Row, count: int, prompt: bool) -> str | Dropped:
        """As `_written`, but without a generation prompt that was not asked for."""
        raw, unasked = self._written(row, count, prompt), self._unasked(row)
        return raw if prompt or isinstance(raw, Dropped) or isinstance(unasked, Dropped) else raw.removesuffix(unasked)


def _ends_special(text: str, span: tuple[int, int]) -> bool:
    return bool(ALIAS.fullmatch(text[slice(*span)].rstrip()[-ALIAS_LENGTH:]))
