"""The generation prompt that a template writes behind any conversation, asked for it or not, or as much of it.

    unasked(writer, marker, row)    that text, where there are the row's tools and documents; "" where the template
                                    writes none; Dropped where it cannot be told

It is no part of an answer, and would be taken for the end of one. The first template of Llama 3 writes the whole of
it, Cohere's Command A all but its last token. Where the template renders nothing at all, what it writes of that is
this text. Else it is told from three texts: behind a last answer, behind a question, and between an answer and the
question that follows it. The text behind a last answer is that answer's end and then the prompt; up to where the
prompt parts from what opens a question both are the same.
"""

from __future__ import annotations

from tilth.tokenizer.conversation import Dropped, Row
from tilth.tokenizer.ends import common
from tilth.tokenizer.marks import ALIAS, HERE, Marker
from tilth.tokenizer.writing import Writer

_ASKED = {"role": "user", "content": HERE}
_ANSWERED = {"role": "assistant", "content": HERE}
_UNCERTAIN = "it writes a generation prompt behind every conversation, asked or not; where that begins cannot be told"


def unasked(writer: Writer, marker: Marker, row: Row) -> str | Dropped:
    """The text, raw, behind any messages that the row's tools and documents, marked, belong to."""
    talk = row._replace(messages=[_ASKED, _ANSWERED])
    told, prompted = writer.written(talk, 2, False), writer.written(talk, 2, True)
    if isinstance(told, Dropped) or isinstance(prompted, Dropped):
        return ""
    tail = told.rpartition(HERE)[2]
    always = told == prompted
    found = (_of_nothing(writer, row, tail) if always else "") or _parted(writer, marker, row, tail)
    rest = tail.removesuffix(found)
    ends = marker.specials(rest)
    if (always or found) and ends and ALIAS.sub("", marker.read(rest[ends[0].end :]).text).strip():
        return Dropped("template", _UNCERTAIN)
    return found


def _of_nothing(writer: Writer, row: Row, tail: str) -> str:
    """What the template writes without a message, where it writes that behind an answer as well."""
    nothing = writer.written(row, 0, False)
    bare = "" if isinstance(nothing, Dropped) else nothing.removeprefix(writer.bos)
    return bare if bare.strip() and tail.endswith(bare) else ""


def _parted(writer: Writer, marker: Marker, row: Row, tail: str) -> str:
    """What of `tail`, which stands behind a last answer, begins the prompt for another one; "" where nothing does."""
    talk = row._replace(messages=[_ASKED, _ANSWERED, _ASKED])
    alone, asked, whole = (writer.written(talk, *given) for given in ((1, False), (1, True), (3, False)))
    if isinstance(alone, Dropped) or isinstance(asked, Dropped) or isinstance(whole, Dropped):
        return ""
    texts = whole.split(HERE)
    behind = alone.rpartition(HERE)[2]
    # Asked for, the prompt goes on where it ends unasked, and so does an answer behind a question.
    if len(texts) != 4 or not asked.startswith(alone) or not texts[1].startswith(behind):
        return ""
    same = common(tail, texts[2])
    if not tail[same:].strip():
        return ""  # what ends a last answer ends an earlier one
    start = _token_start(marker, tail, same, _opening(marker, texts[0]))
    return tail[start:] if behind.endswith(tail[start:]) else ""


def _opening(marker: Marker, text: str) -> set[str]:
    """The special tokens that a conversation begins with."""
    names, end = set[str](), 0
    for found in marker.specials(text):
        if text[end : found.start].strip():
            break
        names, end = {*names, found.name}, found.end
    return names


def _token_start(marker: Marker, tail: str, same: int, begins: set[str]) -> int:
    """Where the prompt begins that parts from a question's opening at `same`: of the special token there, or of those
    before it that open messages, which a conversation begins with as well.
    """
    specials = marker.specials(tail)
    start = next((found.start for found in specials if found.start <= same < found.end), same)
    for found in reversed([found for found in specials if found.end <= start]):
        if found.name not in begins or tail[found.end : start].strip():
            break
        start = found.start
    return start
