"""Where an answer ends in a rendered conversation, as other renderings of the template's tell.

    Ends(marker, tried)                                 for one template
        .last(raw, start)                               an answer that ends the text
        .within(row, raw, place, start, alone)          an answer that messages follow
    common(left, right)                                 how far two texts are the same

An answer ends with the last special token that the template writes behind it. Where messages follow, that token may
as well open the next one (`Hello<|im_end|>`, but `Hello` and `<|user|>`). It is taken for the answer's only where the
next message is seen to open without it: as the beginning of a conversation, behind a message that is no answer, or by a
token that conversations begin with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, final

from tilth.tokenizer.conversation import Dropped, Row
from tilth.tokenizer.marks import ALIAS, ANSWERED, BREAK, OPEN, Found, Marker

_SYSTEM = {"role": "system", "content": BREAK}
_USER = {"role": "user", "content": BREAK}


class _Gap(NamedTuple):
    """What stands between an answer and the content of the message behind it.

    Attributes:
        at: where the answer ends, but for a special token that may be its own.
        text: what the template writes from there on.
        token: the special token that it begins with.
        begins: names of the special tokens that conversations begin with.
    """

    at: int
    text: str
    token: Found | None
    begins: set[str]


@final
class Ends:
    """Finds ends of answers for one template.

    Args:
        marker: of the tokenizer.
        tried: renders the first so many messages of a conversation, on request with the generation prompt.
    """

    def __init__(self, marker: Marker, tried: Callable[[Row, int, bool], str | Dropped]) -> None:
        self._marker, self._tried = marker, tried

    def last(self, raw: str, start: int) -> int:
        """The end of an answer that ends `raw`: of its last special token, if nothing but white space follows it."""
        specials = self._marker.specials(raw, start)
        return specials[-1].end if specials and not raw[specials[-1].end :].strip() else len(raw)

    def within(self, row: Row, raw: str, place: int, start: int, alone: str) -> int:
        """The end in `raw` of an answer that messages follow; `alone` is the conversation up to it. 0 where the whole
        does not have it so, or the token behind it cannot be told from the opening of the next message.
        """
        end, closings = self.last(alone, start), self._closings(alone, start)
        if raw.startswith(alone[:end]):
            certain = closings or not self._leading(raw, end)
            return end if certain else self._own_end(row, raw, end, place + 1) or end
        return self._ended_otherwise(row, raw, place, start, alone, closings) or self._rewritten(raw, start, alone, end)

    def _ended_otherwise(
        self, row: Row, raw: str, place: int, start: int, alone: str, closings: list[Found]
    ) -> int | None:
        """The end of an answer that the template ends otherwise where the conversation ends (Phi 3 adds end-of-text,
        OLMo 3 writes it in place of its `<|im_end|>`): the last special token that is the same, else the one that
        stands in its place, else nothing.
        """
        body = closings[0].start if closings else 0
        if body <= start or not raw.startswith(alone[:body]):
            return None
        here = self._marker.specials(raw, body)
        same = body + common(alone[body:], raw[body:])
        shared = [found.end for found in closings if found.end <= same and found in here]
        return shared[-1] if shared else self._own_end(row, raw, body, place + 1)

    def _rewritten(self, raw: str, start: int, alone: str, end: int) -> int:
        """The end of an answer of which the history keeps only the end (without thoughts); 0 where it is another."""
        closing = next((found.name for found in self._marker.specials(alone) if found.end == end), None)
        ends = (found.end for found in self._marker.specials(raw, start) if found.name == closing)
        here = next(ends, 0)
        return here if alone[:end].endswith(raw[start:here].lstrip()) else 0

    def _closings(self, raw: str, start: int) -> list[Found]:
        """The special tokens at the end of a text that only white space stands between."""
        closings, end = list[Found](), len(raw)
        for found in reversed(self._marker.specials(raw, start)):
            if raw[found.end : end].strip():
                break
            closings, end = [found, *closings], found.start
        return closings

    def _own_end(self, row: Row, raw: str, at: int, place: int) -> int | None:
        """The end of the answer that is whole at `at`: of the special token behind it, or `at` where that opens the
        message at `place`, or there is none. None where this cannot be told.
        """
        probe = {**row.messages[place], "content": BREAK}
        begun = self._tried(row._replace(messages=[probe]), 1, False)
        said = None if isinstance(begun, Dropped) or BREAK not in begun else begun.partition(BREAK)[0]
        here, begins = self._leading(raw, at), self._begins(row, raw, said)
        if len(here) > 1 and here[0].name not in begins and here[1].name in begins:
            return here[0].end
        followed = self._tried(row._replace(messages=[*row.messages[:place], probe]), place + 1, False)
        if isinstance(followed, Dropped) or not followed.startswith(raw[:at]):
            return None
        text, content, _ = followed[at:].partition(BREAK)
        if not content or not raw.startswith(text, at):
            return None
        gap = _Gap(at, text, here[0] if here and here[0].end <= at + len(text) else None, begins)
        if said is not None and (end := self._as_begun(gap, said)) is not None:
            return end
        told = {self._as_opened(gap, *opening) for opening in self._openings(row, place)} - {None}
        return told.pop() if len(told) == 1 else None

    def _begins(self, row: Row, raw: str, said: str | None) -> set[str]:
        """The special tokens that conversations begin with: this one, and one that begins with the next message."""
        # Behind a message without content there stands what closes it.
        texts = [raw if str(row.messages[0].get("content") or "").strip() else "", said or ""]
        return {found.name for text in texts for found in self._leading(text, 0)}

    def _leading(self, raw: str, start: int) -> list[Found]:
        """The special tokens from `start` on that only white space stands before."""
        leading, end = list[Found](), start
        for found in self._marker.found(raw, start):
            if OPEN <= found.name <= ANSWERED or raw[end : found.start].strip():
                break
            leading, end = [*leading, found], found.end
        return leading

    def _as_begun(self, gap: _Gap, said: str) -> int | None:
        """The answer's end by `said`, what a conversation that begins with the next message writes before its content:
        special tokens and that message's opening, or also a text of the template's, behind which all is open.
        """
        if said.endswith(gap.text.lstrip()):
            before = said.removesuffix(gap.text.lstrip())
            return gap.at if gap.token is None or self._is_blank(before) else None
        if gap.token is None or gap.token.name in gap.begins:
            return None
        opening = gap.text[gap.token.end - gap.at :].lstrip()
        return gap.token.end if said.endswith(opening) and self._is_blank(said.removesuffix(opening)) else None

    def _as_opened(self, gap: _Gap, opening: str, prompt: str) -> int | None:
        """The answer's end by what opens the next message behind one that is no answer, where the generation prompt
        would be `prompt`.
        """
        opening, text = opening.lstrip(), gap.text.lstrip()
        token = gap.token.name if gap.token else ""
        if text == opening:
            # What an opening and the prompt both begin with may close the message before them.
            shared = bool(token) and [found.name for found in self._leading(prompt, 0)[:1]] == [token]
            return None if shared and token not in gap.begins else gap.at
        if gap.token is None or token in gap.begins or not opening or not text.endswith(opening):
            return None
        return gap.token.end if text.removesuffix(opening).strip() == token else None

    def _openings(self, row: Row, place: int) -> Iterator[tuple[str, str]]:
        """What the template writes before the content of this message where the one before it is no answer, and its
        generation prompt there.
        """
        probe, earlier = {**row.messages[place], "content": BREAK}, row.messages[: place - 1]
        for before in ([*earlier, _USER], [*earlier, _SYSTEM], [_SYSTEM]):
            behind, count = row._replace(messages=[*before, probe]), len(before)
            alone, followed = self._tried(behind, count, False), self._tried(behind, count + 1, False)
            prompt = self._tried(behind, count, True)
            if isinstance(alone, Dropped) or isinstance(followed, Dropped) or isinstance(prompt, Dropped):
                continue
            if followed.startswith(alone) and prompt.startswith(alone):
                opening, content, _ = followed[len(alone) :].partition(BREAK)
                if content:
                    yield opening, prompt[len(alone) :]

    def _is_blank(self, raw: str) -> bool:
        """Whether there is nothing but special tokens and white space."""
        return not ALIAS.sub("", self._marker.read(raw).text).strip()


def common(left: str, right: str) -> int:
    """How many characters two texts begin with in common."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if left[low:middle] == right[low:middle] else (low, middle - 1)
    return low
