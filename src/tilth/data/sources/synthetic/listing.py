"""From a recipe's entry to one fixed file of answers.

    list_synthetic(config, root, downloads) -> Listing

All that decides what is asked names a folder in `downloads/synthetic/`; in it lie the record of all requests (store.py)
and, once there are as many answers as the recipe wants, `answers-N.jsonl` with its hash. From then on the endpoint is
not needed, and everything after is a pure function of that file. Another number of requests, another limit, price or
key goes on with the same record.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tilth.core import progress
from tilth.core.config import fingerprint, parse
from tilth.core.errors import DataError, RecipeError
from tilth.core.files import FolderLock, hash_file, read_sealed, write_sealed
from tilth.data.document import Verdict, make_doc_id
from tilth.data.sources.config import SourceConfig
from tilth.data.sources.files import read_input
from tilth.data.sources.hashes import file_hash
from tilth.data.sources.inputs import Input, Kind, Listing
from tilth.data.sources.paths import list_path
from tilth.data.sources.synthetic.budget import Budget
from tilth.data.sources.synthetic.config import SeedDocuments, SyntheticConfig
from tilth.data.sources.synthetic.prompts import AS_PAIRS, Prompt, Seed, prompts, template_hash
from tilth.data.sources.synthetic.store import Store

_DECIDES = ["base_url", "model", "make", "prompt", "system", "topics", "seed", "temperature", "max_tokens", "extra"]
_KINDS: dict[str, Kind] = {"documents": "synthetic_documents", "pairs": "synthetic_pairs"}


def list_synthetic(config: SourceConfig, root: Path, downloads: Path) -> Listing:
    """The fixed file of a synthetic source, after what it still lacks was asked for.

    Raises:
        DataError: the endpoint refuses, the cost cap is reached, or more requests stay without an answer than
            `max_missing` allows. What was answered is kept: the same command goes on.
        RecipeError: the key's variable is not set, or httpx2 is not installed; only when something is to be asked.
    """
    wanted = config.synthetic
    assert wanted is not None
    seeds = _Seeds(wanted, root, downloads)
    key = fingerprint(
        {**wanted.model_dump(mode="json", include=set(_DECIDES)), "seeds": seeds.identity, "as": AS_PAIRS}
    )
    folder = downloads / "synthetic" / key[:32]
    with FolderLock(folder, "the folder of synthetic answers"):
        path, note = folder / f"answers-{wanted.requests}.jsonl", folder / f"answers-{wanted.requests}.json"
        if not (note.is_file() and path.is_file() and file_hash(path) == read_sealed(note)["sha256"]):
            said = _fill(wanted, seeds, folder, path)
            write_sealed(note, {"sha256": hash_file(path), "said": said})
        facts = read_sealed(note)
    locator = f"synthetic-{key[:16]}"
    item = Input(config.source_name, _KINDS[wanted.make], path, locator, path.stat().st_size, facts["sha256"])
    doc_id = make_doc_id(config.source_name, locator)
    return Listing((item,), (Verdict(doc_id, "list", "synthetic", "kept", str(wanted.requests), facts["said"]),))


def _fill(config: SyntheticConfig, seeds: _Seeds, folder: Path, path: Path) -> str:
    """Asks for what is missing and writes the fixed file; returns what the ledger says of it."""
    store, budget = Store(folder), Budget(config.price, config.cost_cap)
    budget.spent = store.spent
    done = store.done
    open_prompts = (prompt for prompt in prompts(config, seeds.read) if prompt.number not in done)
    first = next(open_prompts, None)
    last = ""
    if first is not None:
        from tilth.data.sources.synthetic.asking import ask  # asyncio takes its time to load

        with progress.measured("asking", config.host, "request", config.requests) as meter:
            meter.had(sum(number < config.requests for number in done))
            last = ask(config, _from(first, open_prompts), store, budget, _key(config), meter)
    missing = sum(number not in store.done for number in range(config.requests))
    if missing > config.max_missing * config.requests:
        raise DataError(
            f"{missing} of {config.requests} requests to {config.base_url} have no answer; the last: {last}",
            f"type the same command to ask for them again, or raise `max_missing:` (now {config.max_missing:g})",
        )
    provenance = {"endpoint": config.host, "asked_model": config.model, "prompt": template_hash(config)}
    store.fix(path, range(config.requests), provenance)
    answers = config.requests - missing
    return f"{answers} of {config.requests} requests answered by {config.model} at {config.host}: {budget.said()}"


def _from(first: Prompt, rest: Iterator[Prompt]) -> Iterator[Prompt]:
    yield first
    yield from rest


def _key(config: SyntheticConfig) -> str | None:
    if config.api_key_env is None:
        return None
    key = os.environ.get(config.api_key_env, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise RecipeError(
            f"the environment variable {config.api_key_env} holds no key",
            f"set it to the key of {config.base_url}, or remove `api_key_env:` if it needs none",
        )
    return key


class _Seeds:
    """What the requests are about: the topics, or the documents of files."""

    def __init__(self, config: SyntheticConfig, root: Path, downloads: Path) -> None:
        self._topics = config.topics
        self._documents = config.documents
        self.identity: list[Any] = []
        if config.documents is not None:
            self._source = _source_of(config.documents)
            self._inputs = list_path(self._source, root, downloads).inputs
            reading = config.documents.model_dump(mode="json", exclude={"path"}, exclude_none=True)
            self.identity = [reading, [item.identity() for item in self._inputs]]

    def read(self) -> Iterator[Seed]:
        """All of them, in their order; documents as a stream."""
        if self._documents is None:
            yield from (Seed(topic, topic) for topic in self._topics)
            return
        for item in self._inputs:
            for outcome in read_input(item, self._source):
                if (document := outcome.document) is not None:
                    text = document.text[: self._documents.characters]
                    yield Seed(text, document.locator, document.group)


def _source_of(seeds: SeedDocuments) -> SourceConfig:
    return parse(SourceConfig, seeds.model_dump(exclude={"characters"}), "synthetic.documents")
