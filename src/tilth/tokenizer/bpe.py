"""Byte-level BPE: learned by tilth, encoded by tiktoken's engine, saved for Hugging Face.

Text is cut by a pattern (patterns.py); in each pretoken the neighbours whose joined bytes are the token of lowest id
are merged, until no two neighbours join to a token. Ids: the 256 bytes in GPT-2's order, learned tokens in the order
of learning, special tokens.

Any text can be encoded:

    UTF-8                    tiktoken; where its regex engine gives up (more than a million white spaces in a row), the
                             run is cut by rule (patterns.space_cuts) and the rest goes to tiktoken: the same ids
    other bytes              every maximal stretch that is not UTF-8 is a pretoken of its own, what lies between is text
    a str with surrogates    is its bytes by `surrogatepass`, and these are such stretches

so that decode_bytes(encode(data)) == data for all bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt
import tiktoken

from tilth.tokenizer.base import AnyKind, Tokenizer, TokenizerConfig, text_bytes
from tilth.tokenizer.bpe_train import byte_tokens, learn_merges
from tilth.tokenizer.hf_format import END_OF_TEXT, bpe_model, byte_level, byte_level_decoder, spell, unspell
from tilth.tokenizer.patterns import GROUPED, MARK, PATTERNS, SPACES, PatternName, space_cuts
from tilth.tokenizer.pretokens import count_pretokens

LONG_RUN = 100_000  # white spaces; tiktoken's regex engine gives up at a million
# Letters that are letters in every version of Unicode; text without them (Chinese, say) stays in one piece.
_BORDER = re.compile("[0-9A-Za-zÀ-ÖØ-öø-ÿΑ-ΡΣ-Ωα-ωА-я](?=[ \n])")
_NOT_UTF8 = re.compile("([\udc80-\udcff]+)")  # as `surrogateescape` decodes them


@final
class BpeTokenizer(Tokenizer):
    """Byte-level BPE; use `train_tokenizer` to make one.

    Args:
        tokens: bytes of each id from 0: the 256 bytes in GPT-2's order, then the learned tokens.
        pattern: the name of the pattern that cuts text.
        specials: names of special tokens besides `<|endoftext|>`.
        training: what was learned from.

    Raises ValueError for tokens that no training gives.
    """

    kind: ClassVar[AnyKind] = "bpe"

    def __init__(
        self,
        tokens: Sequence[bytes],
        pattern: PatternName,
        specials: Sequence[str] = (),
        training: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(tokens, [END_OF_TEXT, *specials], training)
        self._rank = {token: place for place, token in enumerate(tokens)}
        if list(tokens[:256]) != byte_tokens() or len(self._rank) != len(tokens):
            raise ValueError("the vocabulary does not start with the 256 bytes, or has a token twice")
        self._pattern: PatternName = pattern
        # The special token is never allowed in a text, so it changes no id; with none at all the engine looks for an
        # empty string at every character, and takes twice as long.
        special = {END_OF_TEXT: len(tokens)}
        self._engine = tiktoken.Encoding(
            "tilth", pat_str=GROUPED[pattern], mergeable_ranks=self._rank, special_tokens=special
        )

    @property
    def pattern(self) -> PatternName:
        """The name of the pattern that cuts text."""
        return self._pattern

    def cut(self, text: str, size: int) -> list[str]:
        """Cuts between a letter or digit and a white space: no pretoken of any pattern goes over that place, and what
        is matched after it does not depend on what stands before.
        """
        pieces, start = [], 0
        while len(text) - start > size and (found := _BORDER.search(text, start + size)):
            pieces.append(text[start : found.end()])
            start = found.end()
        return [*pieces, text[start:]]

    def encode_array(self, text: str | bytes) -> npt.NDArray[np.uint32]:
        """The ids of a text or of any bytes."""
        try:
            return self._encode_text(text if isinstance(text, str) else text.decode())
        except UnicodeError:
            return self._encode_broken(text_bytes(text))

    def encode_joined(self, join: Callable[[bytes], bytes], texts: int) -> npt.NDArray[np.unsignedinteger[Any]] | None:
        """The ids of many texts in a row: one call of the engine, whatever their number.

        End-of-text stands between them as its name, which the engine is told to take for the token; so no text may
        hold that name here.
        """
        joined = join(END_OF_TEXT.encode())
        if joined.count(END_OF_TEXT.encode()) != texts:
            return None
        try:
            return self._engine.encode_to_numpy(joined.decode(), allowed_special={END_OF_TEXT}).copy()
        except ValueError:  # lone surrogates, very long runs of white space
            return None

    def _encode_text(self, text: str) -> npt.NDArray[np.uint32]:
        try:
            return self._engine.encode_to_numpy(text, disallowed_special=()).copy()  # the engine's buffer is read-only
        except UnicodeError:
            raise
        except ValueError:
            return self._encode_long_runs(text)

    def _encode_long_runs(self, text: str) -> npt.NDArray[np.uint32]:
        parts, done = [], 0
        for run in SPACES.finditer(text):
            if run.end() - run.start() < LONG_RUN:
                continue
            after_mark = bool(run.start()) and _is_mark(text[run.start() - 1])
            cuts = space_cuts(self._pattern, text, run.start(), run.end(), after_mark)
            parts.append(self._engine.encode_to_numpy(text[done : cuts[0]], disallowed_special=()))
            parts.extend(self._encode_pretoken(text[start:end].encode()) for start, end in pairwise(cuts))
            done = cuts[-1]
        parts.append(self._engine.encode_to_numpy(text[done:], disallowed_special=()))
        return np.concatenate(parts)

    def _encode_broken(self, data: bytes) -> npt.NDArray[np.uint32]:
        parts = _NOT_UTF8.split(data.decode("utf-8", "surrogateescape"))  # text and broken stretches in turn
        ids = []
        for place, part in enumerate(parts):
            broken = place % 2 == 1
            ids.append(
                self._encode_pretoken(part.encode("utf-8", "surrogateescape")) if broken else self._encode_text(part)
            )
        return np.concatenate(ids)

    def _encode_pretoken(self, data: bytes) -> npt.NDArray[np.uint32]:
        return np.array(self._engine._encode_single_piece(data), np.uint32)

    def with_special_tokens(self, names: Sequence[str]) -> BpeTokenizer:
        """The same tokenizer with further special tokens."""
        further = [*list(self.special_tokens)[1:], *(name for name in names if name not in self.special_tokens)]
        return BpeTokenizer(self._tokens, self._pattern, further, self.training)

    def model_json(self) -> dict[str, Any]:
        """BPE with a merge for every way in which two tokens join to a third.

        tiktoken merges by the bytes that result; Hugging Face only merges that are listed. So for each token all of its
        splits into two tokens are listed, as the converters of Llama 3's and GPT-4's vocabularies do.
        """
        split = {
            "type": "Split",
            "pattern": {"Regex": PATTERNS[self._pattern]},
            "behavior": "Isolated",
            "invert": False,
        }
        vocab = {spell(token): place for token, place in self._rank.items()}
        return {
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level()]},
            "decoder": byte_level_decoder(),
            "model": bpe_model(vocab, self._all_merges(), ignore_merges=True),
        }

    def _all_merges(self) -> list[str]:
        rank = self._rank
        merges: list[str] = []
        for token in self._tokens[256:]:
            halves = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
            splits = [
                (rank[left], rank[right], left, right) for left, right in halves if left in rank and right in rank
            ]
            merges.extend(f"{spell(left)} {spell(right)}" for _, _, left, right in sorted(splits))
        return merges

    @classmethod
    def train(cls, config: TokenizerConfig, texts: Iterable[str], workers: int = 1) -> BpeTokenizer:
        """Learns from at most `config.train_bytes` of the texts; fewer entries than asked when no pair occurs twice."""
        counted = count_pretokens(texts, config.pattern, config.train_bytes, workers)
        learned = learn_merges(counted.counts, config.vocab_size - 1 - len(config.special_tokens))
        return cls(learned.tokens, config.pattern, config.special_tokens, counted.facts())

    @classmethod
    def from_json(
        cls, model: Mapping[str, Any], pattern: PatternName, specials: Sequence[str], training: Mapping[str, int]
    ) -> BpeTokenizer:
        """Rebuilt from `model_json()["model"]`; KeyError, TypeError or ValueError when it is none."""
        by_id = {place: unspell(token) for token, place in model["vocab"].items()}
        return cls([by_id[place] for place in range(len(by_id))], pattern, specials, training)


@cache
def _mark_engine() -> tiktoken.Encoding:
    single = {bytes([value]): value for value in range(256)}
    return tiktoken.Encoding("marks", pat_str=MARK, mergeable_ranks=single, special_tokens={})


def _is_mark(character: str) -> bool:
    """Whether tiktoken's engine, whose Unicode tables count, sees a MARK: with this pattern it drops all else."""
    return bool(_mark_engine().encode_ordinary(character))
