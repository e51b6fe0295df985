"""One id per character: the sorted characters of the training text, then the special tokens.

Tiny Shakespeare gets ids 0 to 64 in the order that nanoGPT gives them. It knows the characters of its training text
alone: any other becomes `<|unk|>`, and is counted; `unknown_characters` says which. That any bytes come back holds
of `byte` and `bpe`, not of this kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from tilth.core.errors import DataError
from tilth.tokenizer.base import AnyKind, Tokenizer
from tilth.tokenizer.hf_format import END_OF_TEXT, UNKNOWN


@final
class CharTokenizer(Tokenizer):
    """Characters as tokens; use `train_tokenizer` to make one.

    Bytes are read as UTF-8; what is not UTF-8, and lone surrogates, which are no characters, count as unknown.
    """

    kind: ClassVar[AnyKind] = "char"

    def __init__(
        self, characters: Sequence[str], specials: Sequence[str] = (), training: Mapping[str, int] | None = None
    ) -> None:
        names = [UNKNOWN, END_OF_TEXT, *specials]
        super().__init__([character.encode() for character in characters], names, training)
        self.characters = "".join(characters)
        points = np.array([ord(character) for character in characters], np.int64)
        # One slot more than the highest character: `take` with mode="clip" sends all above it there.
        self._id_of = np.full(int(points.max(initial=-1)) + 2, self.special_tokens[UNKNOWN], np.uint32)
        self._id_of[points] = np.arange(len(points), dtype=np.uint32)

    def encode_array(self, text: str | bytes) -> npt.NDArray[np.uint32]:
        """The ids of a text, one per character."""
        return self._id_of.take(_code_points(text), mode="clip")

    def encode_documents(self, texts: Sequence[str]) -> npt.NDArray[np.uint32]:
        """The ids of many texts in a row, end-of-text after each."""
        ids = self.encode_array("\n".join([*texts, ""]))
        ids[np.cumsum([len(text) + 1 for text in texts], dtype=np.int64) - 1] = self.end_of_text
        return ids

    def unknown_characters(self, text: str | bytes, limit: int = 5) -> list[str]:
        """The first `limit` different characters of a text that become `<|unk|>`, in order of appearance."""
        points = _code_points(text)[self.encode_array(text) == self.special_tokens[UNKNOWN]]
        different, first = np.unique(points, return_index=True)
        return [chr(point) for point in different[np.argsort(first)][:limit].tolist()]

    def with_special_tokens(self, names: Sequence[str]) -> CharTokenizer:
        """The same tokenizer with further special tokens."""
        further = [*list(self.special_tokens)[2:], *(name for name in names if name not in self.special_tokens)]
        return CharTokenizer(self.characters, further, self.training)

    def _size(self, text: str) -> int:
        return len(text)

    def _sizes(self, ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        return np.ones(len(ids), np.int64)

    def model_json(self) -> dict[str, Any]:
        """WordLevel over single characters."""
        vocab = {character: place for place, character in enumerate(self.characters)}
        one = {"Regex": r"[\s\S]"}
        return {
            "pre_tokenizer": {"type": "Split", "pattern": one, "behavior": "Isolated", "invert": False},
            "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": vocab | self.special_tokens, "unk_token": UNKNOWN},
        }

    @classmethod
    def train(cls, texts: Iterable[str], specials: Sequence[str] = ()) -> CharTokenizer:
        """Learns the characters of all texts; DataError when there are none."""
        seen: set[str] = set()
        count = length = 0
        for text in texts:
            seen.update(text)
            count, length = count + 1, length + len(text)
        characters = sorted(character for character in seen if not "\ud800" <= character <= "\udfff")
        if not characters:
            raise DataError(
                "there is no text to take characters from",
                "check that the sources hold text, and the filters keep some",
            )
        return cls(characters, specials, {"texts": count, "characters_read": length})

    @classmethod
    def from_json(cls, model: Mapping[str, Any], specials: Sequence[str], training: Mapping[str, int]) -> CharTokenizer:
        """Rebuilt from `model_json()["model"]`; KeyError, TypeError or ValueError when it is none."""
        by_id = {place: character for character, place in model["vocab"].items()}
        names = {UNKNOWN, END_OF_TEXT, *specials}
        characters = [by_id[place] for place in range(len(by_id) - len(names))]
        if any(len(character) != 1 for character in characters):
            raise ValueError("an entry is not a single character")
        return cls(characters, specials, training)


def _code_points(text: str | bytes) -> npt.NDArray[np.uint32]:
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
