"""Tokens of other tokenizers to the bytes they stand for, by the `decoder` of tokenizer.json.

    Spelling(decoder)         refuses what is not known, by name
        .bytes_of(token)      within a text
        .first_bytes(token)   at its beginning, where several kinds leave out the space before the first word

Known: ByteLevel (GPT-2, Llama 3, Qwen), Metaspace and its spelt-out form with byte fallback (Llama 2, Gemma, T5),
WordPiece (BERT), BPEDecoder, none, and sequences of these. A text is the bytes of its tokens, one after another: what
`tokenizers` gives too, but for broken UTF-8, which becomes U+FFFD here as everywhere else in tilth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tilth.tokenizer.hf_format import unspell

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# What WordPiece writes together again (tokenizers, decoders/wordpiece.rs: cleanup).
_CLEANED = {" .": ".", " ?": "?", " !": "!", " ,": ",", " ' ": "'", " n't": "n't", " 'm": "'m", " do not": " don't"}
_CLEANED |= {" 's": "'s", " 've": "'ve", " 're": "'re"}

Part = str | bytes
Step = Callable[[Part, bool], Part]


class Spelling:
    """What tokens stand for. ValueError, naming it, for a decoder that is not known."""

    def __init__(self, decoder: Mapping[str, Any] | None) -> None:
        self._steps = _steps(decoder)

    def bytes_of(self, token: str) -> bytes:
        """The bytes of a token that follows others."""
        return self._through(token, False)

    def first_bytes(self, token: str) -> bytes:
        """The bytes of a token that begins a text."""
        return self._through(token, True)

    def _through(self, token: str, first: bool) -> bytes:
        part: Part = token
        for step in self._steps:
            part = step(part, first)
        return part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")


def _steps(decoder: Mapping[str, Any] | None) -> list[Step]:
    if decoder is None:
        return [_joined_by_space]
    kind = decoder["type"]
    if kind == "Sequence":
        return _sequence(decoder["decoders"])
    if kind == "ByteLevel":
        return [_byte_level]
    if kind == "Metaspace":
        return [_metaspace(decoder)]
    if kind == "WordPiece":
        return [_wordpiece(decoder)]
    if kind == "BPEDecoder":
        return [_suffix(decoder["suffix"])]
    return _sequence([decoder])


def _sequence(decoders: list[Mapping[str, Any]]) -> list[Step]:
    steps: list[Step] = []
    fused = False
    for decoder in decoders:
        kind = decoder["type"]
        if kind == "Fuse":
            fused = True
        elif kind == "ByteFallback":
            steps.append(_byte_fallback)
        elif kind == "Replace" and "String" in decoder["pattern"]:
            steps.append(_replaced(decoder["pattern"]["String"], decoder["content"]))
        elif kind == "Strip" and fused and not decoder["stop"]:
            steps.append(_stripped(decoder["content"], decoder["start"]))
        elif kind in ("ByteLevel", "Metaspace", "WordPiece", "BPEDecoder") and not fused:
            steps += _steps(decoder)
        else:
            raise ValueError(f"its decoder has a part that tilth does not know: {dict(decoder)!r:.200}")
    return steps


def _joined_by_space(part: Part, first: bool) -> Part:
    return part if first or isinstance(part, bytes) else f" {part}"


def _byte_level(part: Part, first: bool) -> Part:
    del first
    try:
        return part if isinstance(part, bytes) else unspell(part)
    except ValueError:  # an added token, which stands for itself
        return part


def _byte_fallback(part: Part, first: bool) -> Part:
    del first
    found = None if isinstance(part, bytes) else _BYTE.fullmatch(part)
    return part if found is None else bytes([int(found[1], 16)])


def _replaced(old: str, new: str) -> Step:
    return lambda part, first: part if isinstance(part, bytes) else part.replace(old, new)


def _stripped(content: str, most: int) -> Step:
    def step(part: Part, first: bool) -> Part:
        if not first or isinstance(part, bytes):
            return part
        count = min(most, len(part) - len(part.lstrip(content)))
        return part[count:]

    return step


def _metaspace(decoder: Mapping[str, Any]) -> Step:
    mark = decoder["replacement"]
    # Older files say add_prefix_space; without either key the prefix is put.
    never = decoder.get("prepend_scheme", "always") == "never" or decoder.get("add_prefix_space") is False

    def step(part: Part, first: bool) -> Part:
        if isinstance(part, bytes):
            return part
        return part.replace(mark, "" if first and not never else " ")

    return step


def _wordpiece(decoder: Mapping[str, Any]) -> Step:
    prefix, cleanup = decoder["prefix"], decoder["cleanup"]

    def step(part: Part, first: bool) -> Part:
        if isinstance(part, bytes):
            return part
        text = part if first else part.removeprefix(prefix) if part.startswith(prefix) else f" {part}"
        for old, new in _CLEANED.items():
            text = text.replace(old, new) if cleanup else text
        return text

    return step


def _suffix(suffix: str) -> Step:
    # The suffix ends a word, and is a space but at the end of the text, which a token cannot know: it is kept there.
    return lambda part, first: part if isinstance(part, bytes) else part.replace(suffix, " ")
