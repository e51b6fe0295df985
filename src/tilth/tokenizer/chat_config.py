"""The `data.chat` section of a recipe; light to import."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tilth.core.config import Config
from tilth.tokenizer.templates import CHECKPOINT

TrainOn = Literal["answers", "all"]
TODAY = datetime.date(2025, 1, 1)


def _as_date(value: Any) -> Any:
    """A date as YAML and JSON have it, which is text."""
    try:
        return datetime.date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f"{value!r} is no date | write it as 2025-01-31") from None


class ChatConfig(Config):
    """How conversations become text, and what of it is trained."""

    template: str = CHECKPOINT
    """`checkpoint`: its own; `chatml`, `llama3`, `mistral`, `gemma`, `zephyr`: built in; or the Jinja2 text itself."""
    train_on: TrainOn = "answers"
    """`answers`: the assistant's messages, each with the token that ends it; `all`: every token."""
    today: Annotated[datetime.date, BeforeValidator(_as_date)] = TODAY
    """The date for templates that write one: fixed, or the same data would give other tokens tomorrow."""
    variables: dict[str, Any] = Field(default_factory=dict)
    """What the template sees besides the messages, for example `enable_thinking: false`."""
