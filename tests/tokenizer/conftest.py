"""Text to learn from: the sources of Python's own library, so that the tests need nothing else."""

import sysconfig
from pathlib import Path

import pytest

from tests.tokenizer.chat_helpers import Pair, made_pairs
from tilth.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    """About 1.5 MB of Python source, and some text that is not ASCII."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    texts, size = ["Größe, naïve, ça; Ελληνικά, 日本語のテキスト, 😀👍🏽 — it's WE'LL\r\n\r\n  x\u00a0y " * 20], 0
    for path in paths:
        texts.append(path.read_text(encoding="utf-8"))
        size += len(texts[-1])
        if size > 1_500_000:
            break
    return texts


@pytest.fixture(scope="session", params=["gpt2", "gpt4"])
def bpe(request: pytest.FixtureRequest, corpus: list[str]) -> Tokenizer:
    return train_tokenizer(TokenizerConfig(vocab_size=2000, pattern=request.param), corpus)


@pytest.fixture(scope="session", params=["char", "byte", "gpt2", "gpt4"])
def any_kind(request: pytest.FixtureRequest, corpus: list[str]) -> Tokenizer:
    if request.param in ("char", "byte"):
        return train_tokenizer(TokenizerConfig(kind=request.param, special_tokens=["<|mask|>"]), corpus)
    return train_tokenizer(TokenizerConfig(vocab_size=600, pattern=request.param, special_tokens=["<|mask|>"]), corpus)


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    return made_pairs(tmp_path_factory.mktemp("kinds"))
