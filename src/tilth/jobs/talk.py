"""The job behind `tilth chat`: a conversation with a model, turn by turn.

    Talk(language_model, options, system)     a context manager: the template is rendered in a process that it keeps
        .ask(text) -> Asked                   what the model is given to answer; turns that no longer fit are left out
        .answer(asked, stopped)               the answer's text as it comes; the turn is then part of the conversation
        .begin(system)                        a new conversation
        .save(path)                           all conversations, as JSON Lines that a recipe can read

Keys and values of what was read stay from turn to turn, as far as the next prompt begins with the same tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tilth.core.errors import DataError, RecipeError
from tilth.core.files import write_file
from tilth.core.random import derive_seed
from tilth.generate.prefix_cache import Memory
from tilth.generate.text import TextOptions, stream_texts
from tilth.jobs.load import LanguageModel

Message = dict[str, str]
_ROOM = 4
"""An answer has this part of the context at least, or as much as it may be long."""


@dataclass(frozen=True)
class Asked:
    """A question as the model reads it.

    Attributes:
        ids: of the conversation and the beginning of an answer.
        forgotten: how many of the oldest turns went to make room, with this question.
        most: tokens that the answer may have.
    """

    text: str
    ids: list[int]
    forgotten: int
    most: int


class Talk:
    """A conversation.

    Attributes:
        turns: (question, answer) of this conversation, all that were said.
        first: the oldest turn that the model still sees.
        system: what stands before the turns; None for nothing.
        memory: what the model has been read.
    """

    def __init__(self, language_model: LanguageModel, options: TextOptions, system: str | None = None) -> None:
        language_model.check_writes()
        self.language_model, self.system = language_model, system
        self._encoder = language_model.chat_encoder()
        stop_ids = options.stop_ids | language_model.stop_ids | self._encoder.stop_ids()
        self._options = replace(options, samples=1, stop_ids=frozenset(stop_ids))
        self.turns, self.first, self.memory = list[tuple[str, str]](), 0, Memory()
        self._asked, self._before = 0, list[list[Message]]()
        self._files = set[Path]()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process that renders."""
        self._encoder.close()

    @property
    def messages(self) -> list[Message]:
        """All of this conversation, turns that the model no longer sees as well."""
        return self._messages(self.turns)

    def _messages(self, turns: list[tuple[str, str]]) -> list[Message]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        roles = ("user", "assistant")
        return system + [
            {"role": role, "content": said} for turn in turns for role, said in zip(roles, turn, strict=True)
        ]

    def ask(self, text: str) -> Asked:
        """What the model is given to answer. DataError when the template does not take it, or it alone fills the
        context; the conversation is then as it was.
        """
        window, most = self.language_model.config.context_length, self._options.max_new_tokens
        room = min(most, window // _ROOM)
        for first in range(self.first, len(self.turns) + 1):
            asked = [*self._messages(self.turns[first:]), {"role": "user", "content": text}]
            ids = self._encoder.prompt(asked)
            if len(ids) + room <= window:
                break
        if len(ids) >= window:
            raise DataError(
                f"this message has {len(ids)} tokens with what the template and the system prompt add; the model reads "
                f"and writes {window} in all",
                "say it in fewer words",
            )
        forgotten, self.first = first - self.first, first
        return Asked(text, ids, forgotten, min(most, window - len(ids)))

    def answer(self, asked: Asked, stopped: Callable[[], bool] | None = None) -> Iterator[str]:
        """The answer in pieces, as they come. The turn is kept, also when it was stopped, unless nothing was said."""
        self._asked += 1
        sampling = self._options.sampling
        seed = derive_seed(sampling.seed, "chat", self._asked)
        found, model = self.language_model, self.language_model.model
        drawn = sampling.model_copy(update={"seed": seed})
        options = replace(self._options, max_new_tokens=asked.most, sampling=drawn, model=found.called)
        said = ""
        for _, piece in stream_texts(model, found.tokenizer, asked.ids, options, self.memory, stopped):
            piece = piece if said else piece.lstrip()
            said += piece
            if piece:
                yield piece
        if said.strip():
            self.turns.append((asked.text, said.strip()))

    def cut_short(self, asked: Asked) -> str:
        """What cut the last answer off; empty when it came to its own end."""
        if self.memory.ended:
            return ""
        return "the context is full" if asked.most < self._options.max_new_tokens else f"after {asked.most} tokens"

    def begin(self, system: str | None) -> None:
        """A new conversation, with this system prompt."""
        if self.turns:
            self._before.append(self.messages)
        self.turns, self.first, self.system = [], 0, system

    def save(self, path: Path) -> int:
        """Writes all conversations since the start, each a line {"messages": […]}; returns how many there are.

        RecipeError when there is none, or a file of that name that this chat did not write.
        """
        told = [*self._before, *([self.messages] if self.turns else [])]
        if not told:
            raise RecipeError("nothing was said yet", "save it later")
        if path.exists() and path not in self._files:
            raise RecipeError(f"{path} exists", "name another file")
        lines = (json.dumps({"messages": messages}, ensure_ascii=False) + "\n" for messages in told)
        write_file(path, "".join(lines).encode("utf-8", "replace"))
        self._files.add(path)
        return len(told)
