"""Tokenizers: learning a byte-level BPE, and encoding to a file, on the sources of the Python that runs this."""

from __future__ import annotations

import hashlib
import shutil
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.worker import Turns, repeat

PATTERN: Literal["gpt4"] = "gpt4"


def sources(megabytes: float) -> list[str]:
    """Whole files of the standard library, its tests left out, up to so many million bytes."""
    texts, size = [], 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if {"test", "tests", "site-packages"} & set(path.parts) or size >= megabytes * 1e6:
            continue
        text = path.read_text("utf-8", errors="replace")
        texts.append(text)
        size += len(text.encode())
    return texts


def _bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def _learn(turns: Turns, options: dict[str, Any], learn: Callable[[list[str]], int]) -> None:
    texts = sources(options["megabytes"])
    size = _bytes(texts)

    def work() -> dict[str, float]:
        start = time.perf_counter()
        entries = learn(texts)
        seconds = time.perf_counter() - start
        assert entries == options["entries"], f"{entries} entries were learned"
        return {"speed": size / seconds / 1e6}

    repeat(turns, work)


def learn_tilth(turns: Turns, options: dict[str, Any]) -> None:
    """One of its entries is end-of-text."""
    from tilth.tokenizer import TokenizerConfig, train_tokenizer

    config = TokenizerConfig(vocab_size=options["entries"], pattern=PATTERN)
    _learn(turns, options, lambda texts: train_tokenizer(config, texts, options["threads"]).vocab_size)


def learn_tokenizers(turns: Turns, options: dict[str, Any]) -> None:
    """Hugging Face's trainer, with the same cuts."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    from tilth.tokenizer.patterns import PATTERNS

    def learn(texts: list[str]) -> int:
        tokenizer = Tokenizer(models.BPE())
        cut = pre_tokenizers.Split(Regex(PATTERNS[PATTERN]), "isolated")
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, letters])
        trainer = trainers.BpeTrainer(
            vocab_size=options["entries"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<|endoftext|>"],
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer, len(texts))
        return int(tokenizer.get_vocab_size())

    _learn(turns, options, learn)


def learn_rustbpe(turns: Turns, options: dict[str, Any]) -> None:
    """rustbpe has no special tokens: it learns one more."""
    import rustbpe

    from tilth.tokenizer.patterns import PATTERNS

    def learn(texts: list[str]) -> int:
        tokenizer = rustbpe.Tokenizer()
        tokenizer.train_from_iterator(iter(texts), vocab_size=options["entries"], pattern=PATTERNS[PATTERN])
        return len(tokenizer.get_mergeable_ranks())

    _learn(turns, options, learn)


def prepare(folder: str, options: dict[str, Any]) -> None:
    """The tokenizer that all of them encode with."""
    from tilth.tokenizer import TokenizerConfig, train_tokenizer

    config = TokenizerConfig(vocab_size=options["entries"], pattern=PATTERN)
    train_tokenizer(config, sources(options["megabytes"])).save(Path(folder) / "tokenizer")


def _encode(turns: Turns, options: dict[str, Any], write: Callable[[list[str], Path], None]) -> None:
    """`write` puts the ids of all texts, end-of-text after each, into the folder's tokens.bin."""
    texts = sources(options["megabytes"])
    size, folder = _bytes(texts), Path("out")

    def work() -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter()
        write(texts, folder)
        seconds = time.perf_counter() - start
        ids = hashlib.sha256((folder / "tokens.bin").read_bytes()).hexdigest()
        return {"speed": size / seconds / 1e6, "ids": ids}

    repeat(turns, work)


def encode_tilth(turns: Turns, options: dict[str, Any]) -> None:
    """A token shard as `tilth prepare` writes it: with offsets, hashes and a manifest, durable when it returns."""
    from concurrent.futures import ThreadPoolExecutor

    from tilth.data.shards import EncodedDocuments, encoded_document, write_shard
    from tilth.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(Path(options["folder"]) / "tokenizer")

    def one(numbered: tuple[int, str]) -> EncodedDocuments:
        number, text = numbered
        return encoded_document(f"{number:032x}", tokenizer.encode_documents([text]), len(text.encode()))

    def write(texts: list[str], folder: Path) -> None:
        with ThreadPoolExecutor(options["threads"]) as pool:
            write_shard(folder, pool.map(one, enumerate(texts)), tokenizer.vocab_size, tokenizer.fingerprint)

    _encode(turns, options, write)


def _to_file(rows: Any, folder: Path) -> None:
    folder.mkdir()
    with (folder / "tokens.bin").open("wb") as file:
        for row in rows:
            np.asarray(row, np.uint16).tofile(file)


def encode_tiktoken(turns: Turns, options: dict[str, Any]) -> None:
    """tiktoken with the same vocabulary, as many texts at a time as there are threads."""
    from concurrent.futures import ThreadPoolExecutor

    import tiktoken

    from tilth.tokenizer import load_tokenizer
    from tilth.tokenizer.patterns import PATTERNS

    own = load_tokenizer(Path(options["folder"]) / "tokenizer")
    end = own.end_of_text
    ranks = {own.token_bytes(token): token for token in range(end)}
    engine = tiktoken.Encoding(
        "same", pat_str=PATTERNS[PATTERN], mergeable_ranks=ranks, special_tokens={"<|endoftext|>": end}
    )

    def one(text: str) -> Any:
        return np.append(engine.encode_to_numpy(text, disallowed_special=()), np.uint32(end))

    def write(texts: list[str], folder: Path) -> None:
        with ThreadPoolExecutor(options["threads"]) as pool:
            _to_file(pool.map(one, texts), folder)

    _encode(turns, options, write)


def encode_tokenizers(turns: Turns, options: dict[str, Any]) -> None:
    """Hugging Face's engine, by its own batches over all threads."""
    from tokenizers import Tokenizer

    engine = Tokenizer.from_file(str(Path(options["folder"]) / "tokenizer" / "tokenizer.json"))
    end = engine.token_to_id("<|endoftext|>")

    def write(texts: list[str], folder: Path) -> None:
        found = engine.encode_batch_fast(texts, add_special_tokens=False)
        _to_file(([*row.ids, end] for row in found), folder)

    _encode(turns, options, write)
