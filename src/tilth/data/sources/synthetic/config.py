"""What a recipe may say of text from an endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import re
import string
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tilth.core.config import Config

_OURS = ("model", "messages", "seed", "temperature", "max_tokens", "max_completion_tokens", "stream", "n")
_VALUES = ("topic", "document", "number", "round")


class SeedDocuments(Config):
    """Files whose documents the requests are about."""

    path: str
    """A file, a folder or a glob, as in a source's `path`."""
    format: Literal[
        "auto", "text", "markdown", "python", "code", "jsonl", "csv", "json", "parquet", "arrow", "html", "pdf"
    ] = "auto"
    """How to read them; `auto` goes by their suffix."""
    field: str = "text"
    """The key or column that holds the text."""
    separator: str | None = None
    """What stands between the cells of a CSV file, as in a source."""
    document: Literal["file", "paragraph", "line"] = "file"
    """What is one document in a text file."""
    characters: int = Field(default=8000, ge=1)
    """So many characters of a document go into a request, no more."""


class Price(Config):
    """What a million tokens cost, in any currency."""

    input: float = Field(ge=0)
    """A million tokens that are sent."""
    output: float = Field(ge=0)
    """A million tokens that come back."""


class SyntheticConfig(Config):
    """Requests to a model, and what to make of its answers."""

    base_url: str
    """The endpoint up to `/chat/completions`, such as `https://api.openai.com/v1` or `http://127.0.0.1:8000/v1`."""
    model: str = Field(min_length=1)
    """The model's name there."""
    api_key_env: str | None = None
    """The environment variable that holds the key; the key itself never stands in a recipe."""
    make: Literal["documents", "pairs"] = "documents"
    """An answer is one document, or a JSON list of question and answer pairs, each of which is one."""
    prompt: str = Field(min_length=1)
    """What is asked, with `{topic}` or `{document}` in it, and `{number}` or `{round}` where they help."""
    system: str | None = None
    """What stands before it."""
    topics: list[str] = []
    """What the requests are about, in turn."""
    documents: SeedDocuments | None = None
    """Or the documents that they are about, in turn."""
    requests: int = Field(ge=1)
    """How many requests."""
    seed: int = Field(default=0, ge=0)
    """Each request is sent with a seed of its own that is made from this one."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """How freely the model writes; by default as the endpoint has it."""
    max_tokens: int = Field(default=1024, ge=1)
    """The longest answer."""
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """How the endpoint calls that limit; newer models of OpenAI want `max_completion_tokens`."""
    extra: dict[str, Any] = {}
    """Further keys for the body of each request, such as `top_p`."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """How many requests are under way at a time."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """The endpoint's limit of requests."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """The endpoint's limit of tokens, sent and received."""
    price: Price | None = None
    """What the tokens cost."""
    cost_cap: float | None = Field(default=None, gt=0)
    """What all of it may cost: no request is sent that could exceed it."""
    deadline: float = Field(default=120.0, gt=0)
    """Seconds for a request, from its first byte to the answer's last."""
    max_response_bytes: int = Field(default=4 << 20, ge=1024)
    """The largest answer that is read."""
    max_missing: float = Field(default=0.0, ge=0, lt=1)
    """The share of requests that may stay without an answer after all attempts; more stop the run."""

    @field_validator("base_url")
    @classmethod
    def _base_url_is_http(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 - reading it checks it
        except ValueError as error:
            raise ValueError(f"{url!r} is not an address: {error} | write https://host/v1") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\0]", url):
            raise ValueError(f"{url!r} is not an http or https address | write https://host/v1")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("the address carries a user, a key or a query | name the key's variable in `api_key_env:`")
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _variable_is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            # The value is not shown: who puts the key itself here shall not see it in a log.
            raise ValueError("it is not the name of an environment variable | write one such as OPENAI_API_KEY")
        return name

    @field_validator("extra")
    @classmethod
    def _extra_is_more(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if taken := [key for key in extra if key in _OURS]:
            raise ValueError(f"{', '.join(taken)} cannot stand in `extra` | these are set by keys of their own")
        return extra

    @model_validator(mode="after")
    def _fits_together(self) -> SyntheticConfig:
        if bool(self.topics) == (self.documents is not None):
            raise ValueError("it needs one of `topics` and `documents` | keep exactly one")
        seed = "topic" if self.topics else "document"
        names = template_names(self.prompt) | (template_names(self.system) if self.system else set())
        if other := sorted(names - {seed, "number", "round"}):
            raise ValueError(f"prompt: there is no {{{other[0]}}} here | write {{{seed}}}, {{number}} or {{round}}")
        if seed not in names:
            raise ValueError(f"prompt: it does not say {{{seed}}} | put {{{seed}}} where it shall stand")
        if self.cost_cap is not None and self.price is None:
            raise ValueError("cost_cap: it needs prices | add `price: {input: …, output: …}` per million tokens")
        return self

    @property
    def host(self) -> str:
        """The endpoint's host, with its port where one is given."""
        return urlsplit(self.base_url).netloc

    @property
    def title(self) -> str:
        """What its documents are filed under by default."""
        return f"synthetic/{self.model}"


def template_names(template: str) -> set[str]:
    """The names in braces; ValueError (`what | remedy`) when there is more than names in them."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"prompt: {error} | write {{{{ and }}}} for braces that are meant as such") from None
    names = set()
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in _VALUES or spec or conversion:
            what = f"{{{name}{':' + spec if spec else ''}}}"
            known = ", ".join(f"{{{value}}}" for value in _VALUES)
            raise ValueError(f"prompt: {what} is not known | write {known}, and {{{{ }}}} for braces meant as such")
        names.add(name)
    return names
