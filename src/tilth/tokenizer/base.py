"""What every tokenizer can do, and what a recipe says about it.

    TokenizerConfig     the keys under `tokenizer:` in a recipe
    Tokenizer           abstract; CharTokenizer, ByteTokenizer, BpeTokenizer and ForeignTokenizer are final
    StreamDecoder       generated ids to text as they come: a token may hold half a character

Ids are 0 … vocab_size - 1: first the ordinary tokens, then the special ones (in a foreign tokenizer: as they came).
Text never becomes a special token, whatever it spells; special ids are put between texts by those who build samples.
With `byte` and `bpe` any bytes come back. `char` knows the characters of its training text alone: to it any other is
`<|unk|>`, the one special id that text can have.
"""

from __future__ import annotations

import codecs
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from tilth.core.config import Config, fingerprint
from tilth.core.errors import DataError
from tilth.tokenizer.hf_format import END_OF_TEXT, UNKNOWN, write_tokenizer
from tilth.tokenizer.labels import Labelled, label_by_size
from tilth.tokenizer.marks import Marked, Names
from tilth.tokenizer.patterns import PATTERNS, PatternName

Kind = Literal["char", "byte", "bpe"]  # what a recipe can train
AnyKind = Literal["char", "byte", "bpe", "foreign"]
Ids = Iterable[int] | npt.NDArray[Any]

LARGEST_VOCABULARY = 1 << 24  # two ids must fit into one 48-bit key while training
_SPECIAL_NAME = re.compile(r"<\|[A-Za-z0-9][A-Za-z0-9_]*\|>|</?[A-Za-z0-9_]+>|\[/?[A-Za-z0-9_]+\]")


class TokenizerConfig(Config):
    """How text becomes token ids."""

    kind: Kind = "bpe"
    """`char`: one id per character of the training text, others become `<|unk|>`, counted; `byte`: 256 bytes; `bpe`:
    byte-level BPE, learned."""
    vocab_size: int = 8192
    """bpe: entries, with the 256 bytes and the special tokens; fewer are made when no pair of tokens occurs twice."""
    pattern: PatternName = "gpt4"
    """bpe: how text is cut before merging: as for GPT-2, or as for GPT-4 and Llama 3."""
    train_bytes: int = 256 << 20
    """bpe: training reads at most the first so many bytes (UTF-8) of the texts; what follows is not looked at."""
    special_tokens: list[str] = Field(default_factory=list)
    """Names of further special tokens besides `<|endoftext|>`, for example `<|mask|>` for masked language models. What
    a built-in `data.chat.template` writes is there without being named, where the tokenizer is learned."""

    @property
    def least_ids(self) -> int:
        """How many ids the tokenizer has at least, as far as that is known before training; for byte, exactly."""
        if self.kind == "bpe":
            return self.vocab_size
        built_in = 257 if self.kind == "byte" else 3  # 256 bytes and end-of-text; a character, unknown, end-of-text
        return built_in + len(self.special_tokens)

    @field_validator("train_bytes")
    @classmethod
    def _some_text(cls, value: int) -> int:
        if value < 1:
            raise ValueError(
                f"{value} bytes leave nothing to learn from | give the number of bytes, for example 268435456"
            )
        return value

    @field_validator("special_tokens")
    @classmethod
    def _names(cls, names: list[str]) -> list[str]:
        for name in names:
            # The form keeps names apart from learned tokens: in no pretoken a mark follows letters.
            if not _SPECIAL_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is not a name for a special token | write it as <|name|>, <name> or [NAME], of letters, "
                    "digits and _"
                )
        twice = [name for name in {*names, END_OF_TEXT, UNKNOWN} if [*names, END_OF_TEXT, UNKNOWN].count(name) > 1]
        if twice:
            raise ValueError(
                f"{sorted(twice)[0]!r} stands twice or is there anyway | name each further special token once"
            )
        return names

    @model_validator(mode="after")
    def _room(self) -> TokenizerConfig:
        if self.kind != "bpe":
            fields = type(self).model_fields
            for key in ("vocab_size", "pattern", "train_bytes"):
                if getattr(self, key) != fields[key].default:
                    raise ValueError(f"{key} has no meaning for kind: {self.kind} | remove it, or set kind: bpe")
            return self
        least = 256 + 1 + len(self.special_tokens)
        if not least <= self.vocab_size <= LARGEST_VOCABULARY:
            raise ValueError(
                f"vocab_size {self.vocab_size} is not between {least} (256 bytes and the special tokens)"
                f" and {LARGEST_VOCABULARY} | set vocab_size in that range, for example 8192"
            )
        return self


class Tokenizer(ABC):
    """Text to ids and back; immutable.

    Attributes:
        special_tokens: name -> id, at least `<|endoftext|>`.
        training: counts of what was learned from (texts, bytes, what was left out); empty where unknown.
    """

    kind: ClassVar[AnyKind]

    def __init__(
        self, tokens: Sequence[bytes], specials: Sequence[str], training: Mapping[str, int] | None = None
    ) -> None:
        self.special_tokens: dict[str, int] = {name: len(tokens) + place for place, name in enumerate(specials)}
        self.training: dict[str, int] = dict(training or {})
        self._tokens = list(tokens)
        self._shown = [*tokens, *(name.encode() for name in specials)]
        self._hidden = [*tokens, *(b"" for _ in specials)]

    @abstractmethod
    def encode_array(self, text: str | bytes) -> npt.NDArray[np.uint32]:
        """The ids of a text, without a Python object per token; never a special id (but char's `<|unk|>`)."""

    @abstractmethod
    def model_json(self) -> dict[str, Any]:
        """`model`, `pre_tokenizer` and `decoder` as Hugging Face's tokenizer.json has them, with the same ids."""

    def cut(self, text: str, size: int) -> list[str]:
        """`text` in pieces of at least about `size` characters whose ids, joined, are the ids of the whole; at least
        one, and one alone where the kind of tokenizer gives no place to cut.
        """
        del size
        return [text]

    def encode_documents(self, texts: Sequence[str]) -> npt.NDArray[np.uint32]:
        """The ids of many texts in a row, `document_opening` before each, end-of-text after each."""
        ids = self.encode_joined(lambda border: border.join([*map(text_bytes, texts), b""]), len(texts))
        if ids is not None:
            return ids.astype(np.uint32, copy=False)
        end = np.array([self.end_of_text], np.uint32)
        parts = [part for text in texts for part in (self.encode_array(text), end)]
        return np.concatenate(parts) if parts else np.empty(0, np.uint32)

    def encode_joined(self, join: Callable[[bytes], bytes], texts: int) -> npt.NDArray[np.unsignedinteger[Any]] | None:
        """What `encode_documents` gives of so many texts, which `join` puts together in UTF-8, the border that it is
        given after each; None where that cannot be told from the whole.
        """
        del join, texts
        return None

    @property
    def pattern(self) -> PatternName | None:
        """The name of the pattern that cuts text before merging; None where text is not cut."""
        return None

    @property
    def vocab_size(self) -> int:
        """The number of ids, special ones included."""
        return len(self._shown)

    @property
    def end_of_text(self) -> int:
        """The id of `<|endoftext|>`."""
        return self.special_tokens[END_OF_TEXT]

    @property
    def named_tokens(self) -> dict[str, str]:
        """Special tokens by their jobs, named as in Hugging Face: `eos_token`, `bos_token`, `pad_token`, …"""
        return {"eos_token": END_OF_TEXT} | ({"unk_token": UNKNOWN} if UNKNOWN in self.special_tokens else {})

    def token_id(self, job: str) -> int | None:
        """The id of the token that does a job (`bos_token`, `pad_token`, `mask_token`, …); None where none does."""
        name = self.named_tokens.get(job)
        return None if name is None else self.special_tokens.get(name)

    @property
    def opening(self) -> list[int]:
        """The special ids that a model of this tokenizer expects before a text: none, or its bos or cls."""
        return []

    @property
    def document_opening(self) -> list[int]:
        """What of `opening` stands before each of many texts: nothing where it is the end of the one before."""
        return [] if self.end_of_text in self.opening else self.opening

    @property
    def closing(self) -> list[int]:
        """The special ids that it expects after a text: none, or its eos or sep."""
        return []

    @property
    def added_names(self) -> Names:
        """The added tokens, for templates: the special ones in the order of `special_tokens`."""
        return Names(list(self.special_tokens))

    @abstractmethod
    def with_special_tokens(self, names: Sequence[str]) -> Tokenizer:
        """The same tokenizer with further special tokens, ids after all others; names that it has are left out."""

    def encode_marked(self, rows: Sequence[Marked]) -> list[Labelled]:
        """Rendered conversations: the ids that the whole text has, special tokens where its aliases stand, and for each
        id whether it is part of what is trained: a token that reaches into a span from before it is.
        """
        specials = list(self.special_tokens.values())
        return [label_by_size(row, self.encode_array, self._size, self._sizes, specials) for row in rows]

    def _size(self, text: str) -> int:
        """The length of a text in what `_sizes` measures tokens by: bytes."""
        return len(text.encode())

    def _sizes(self, ids: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        return self._token_sizes[ids]

    @cached_property
    def _token_sizes(self) -> npt.NDArray[np.int64]:
        return np.array([len(token) for token in self._tokens], np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that determines the ids; equal for tokenizers that give equal ids on every text."""
        tokens = [token.hex() for token in self._tokens]
        pattern = PATTERNS[self.pattern] if self.pattern else None
        specials = list(self.special_tokens)
        return fingerprint({"kind": self.kind, "pattern": pattern, "tokens": tokens, "specials": specials})

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id (a special one's name); DataError when there is no such id."""
        return self.decode_bytes([token])

    def encode(self, text: str | bytes) -> list[int]:
        """The ids of a text. `encode_array` is faster."""
        ids: list[int] = self.encode_array(text).tolist()
        return ids

    def decode_bytes(self, ids: Ids, skip_special: bool = False, begins: bool = True) -> bytes:
        """The bytes that ids stand for; special ids give their name, or nothing. DataError on an id that is none.

        `begins` says whether a text begins with these ids: some foreign tokenizers put a space before the first word,
        which is then not part of the text.
        """
        del begins
        table = self._hidden if skip_special else self._shown
        return b"".join(map(table.__getitem__, self._checked(ids)))

    def decode(self, ids: Ids, errors: str = "replace", skip_special: bool = False) -> str:
        """The text that ids stand for; `errors` as in `bytes.decode`, for ids that end within a character."""
        return self.decode_bytes(ids, skip_special).decode("utf-8", errors)

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json, which tilth, transformers and tokenizers read."""
        facts = {
            "kind": self.kind,
            "pattern": self.pattern,
            "fingerprint": self.fingerprint,
            "training": self.training,
        }
        write_tokenizer(folder, self.model_json(), self.special_tokens, facts)

    def _checked(self, ids: Ids) -> list[int]:
        array = np.asarray(ids if hasattr(ids, "__array__") else list(ids))
        if not array.size:
            return []
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise DataError(
                f"token ids came as {array.ndim}-dimensional {array.dtype}", "give one flat row of whole numbers"
            )
        wrong = np.flatnonzero((array < 0) | (array >= self.vocab_size))
        if wrong.size:
            raise DataError(
                f"{int(array[wrong[0]])} at place {int(wrong[0])} is no token id: there are 0 to {self.vocab_size - 1}",
                "decode with the tokenizer that made these ids, and never ids from a padded part of the vocabulary",
            )
        plain: list[int] = array.tolist()
        return plain


class StreamDecoder:
    """Decodes ids one at a time: text comes out as soon as its characters are complete.

    All that `push` and `flush` return, joined, is what `Tokenizer.decode` gives for the whole. With `begins` false the
    ids go on with a text that stands before them, and a first space is theirs.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True, begins: bool = True) -> None:
        self._tokenizer, self._skip_special, self._begins = tokenizer, skip_special, begins
        self._specials = frozenset(tokenizer.special_tokens.values()) if skip_special else frozenset()
        self._first = begins
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that this id completes; empty while a character is incomplete."""
        data = self._tokenizer.decode_bytes([token], self._skip_special, self._first)
        self._first = self._first and token in self._specials
        return self._utf8.decode(data)

    def flush(self) -> str:
        """The end: bytes that no id completed, as U+FFFD. The decoder then starts anew."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        self._first = self._begins
        return rest


def text_bytes(text: str | bytes) -> bytes:
    """A text as bytes: UTF-8, a lone surrogate as the three bytes that `surrogatepass` gives it."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
