"""One id per byte: id 0 to 255 is the byte itself, then the special tokens. Nothing to learn, nothing unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from tilth.tokenizer.base import AnyKind, Tokenizer, text_bytes
from tilth.tokenizer.hf_format import END_OF_TEXT, bpe_model, byte_letters, byte_level, byte_level_decoder


@final
class ByteTokenizer(Tokenizer):
    """Bytes as tokens: any bytes come back as they were."""

    kind: ClassVar[AnyKind] = "byte"

    def __init__(self, specials: Sequence[str] = (), training: Mapping[str, int] | None = None) -> None:
        super().__init__([bytes([value]) for value in range(256)], [END_OF_TEXT, *specials], training)

    def encode_array(self, text: str | bytes) -> npt.NDArray[np.uint32]:
        """The ids of a text, one per byte of its UTF-8."""
        return np.frombuffer(text_bytes(text), np.uint8).astype(np.uint32)

    def encode_joined(self, join: Callable[[bytes], bytes], texts: int) -> npt.NDArray[np.unsignedinteger[Any]]:
        """The ids of many texts in a row, end-of-text after each."""
        raw = np.frombuffer(join(b"\xff"), np.uint8)  # which UTF-8 never holds
        ids = raw.astype(np.uint16)
        ids[raw == 0xFF] = self.end_of_text
        return ids

    def with_special_tokens(self, names: Sequence[str]) -> ByteTokenizer:
        """The same tokenizer with further special tokens."""
        further = [*list(self.special_tokens)[1:], *(name for name in names if name not in self.special_tokens)]
        return ByteTokenizer(further, self.training)

    def model_json(self) -> dict[str, Any]:
        """BPE without a merge, over Hugging Face's byte letters."""
        vocab = {letter: value for value, letter in enumerate(byte_letters())}
        return {
            "pre_tokenizer": byte_level(),
            "decoder": byte_level_decoder(),
            "model": bpe_model(vocab, [], ignore_merges=False),
        }

    @classmethod
    def from_json(cls, model: Mapping[str, Any], specials: Sequence[str], training: Mapping[str, int]) -> ByteTokenizer:
        """Rebuilt; ValueError when the vocabulary is not the 256 bytes in order."""
        if list(model["vocab"]) != byte_letters() or list(model["vocab"].values()) != list(range(256)):
            raise ValueError("the vocabulary is not the 256 bytes in order")
        return cls(specials, training)
