"""The requests of a synthetic source, numbered from 0: the same for the same recipe and the same seeds, always.

Request n is about seed `n mod seeds`; `{round}` counts how often all seeds were gone through. A further request never
changes those before it: raising `requests` asks only for what is new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tilth.core.errors import DataError
from tilth.core.random import derive_seed
from tilth.data.sources.synthetic.config import SyntheticConfig

AS_PAIRS = (
    '\n\nAnswer with a JSON array of objects, each with the keys "question" and "answer", both texts. '
    "Write nothing before or after the array."
)


@dataclass(frozen=True, slots=True)
class Seed:
    """What a request is about: a topic or a document's text, and what its documents must not be parted from."""

    text: str
    label: str
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request: its number and what it is about; `body` is what is sent."""

    number: int
    seed: Seed
    body: dict[str, Any]

    @property
    def content(self) -> bytes:
        return json.dumps(self.body, ensure_ascii=False).encode("utf-8", "replace")


def prompts(config: SyntheticConfig, seeds: Callable[[], Iterable[Seed]]) -> Iterator[Prompt]:
    """All requests, in order.

    Args:
        seeds: gives them from the first on; called again when all were used.

    Raises:
        DataError: there are no seeds.
    """
    number = round_ = 0
    while number < config.requests:
        before = number
        for seed in seeds():
            yield Prompt(number, seed, _body(config, seed, number, round_))
            number += 1
            if number == config.requests:
                return
        if number == before:
            raise DataError("the synthetic source has no seed: its documents hold no text", "check `documents:`")
        round_ += 1


def _body(config: SyntheticConfig, seed: Seed, number: int, round_: int) -> dict[str, Any]:
    values = {"topic": seed.text, "document": seed.text, "number": number + 1, "round": round_ + 1}
    asked = config.prompt.format_map(values) + (AS_PAIRS if config.make == "pairs" else "")
    system = [{"role": "system", "content": config.system.format_map(values)}] if config.system else []
    body = {
        "model": config.model,
        "messages": [*system, {"role": "user", "content": asked}],
        "seed": derive_seed(config.seed, "synthetic", number) % 2**31,
        config.max_tokens_key: config.max_tokens,
        **config.extra,
    }
    return body if config.temperature is None else {**body, "temperature": config.temperature}


def template_hash(config: SyntheticConfig) -> str:
    """Names what was asked, apart from the seeds, in a document's provenance."""
    text = json.dumps([config.system, config.prompt, AS_PAIRS if config.make == "pairs" else ""])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
