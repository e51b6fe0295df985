"""The process that renders chat templates: `python -m tilth.tokenizer.render_worker`, started by renderer.py.

It takes the template and what belongs to it first. Then each message is a number of conversations, and each of them
gets a message of its own in answer, so that the parent knows which one a template did not survive. Memory and processor
time are bounded by core/worker.py.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from typing import Any

from tilth.core.channel import Channel
from tilth.core.worker import Message, serve, timed
from tilth.tokenizer.conversation import Dropped, Row
from tilth.tokenizer.marks import Marked, Names
from tilth.tokenizer.rendering import Answers, Rendering
from tilth.tokenizer.writing import RunawayError


def main() -> None:
    """Serves conversations until the input ends."""
    serve(_prepare)


def _prepare(setup: dict[str, Any]) -> Callable[[Channel, Message], bool]:
    made: list[Rendering] = []

    def answers(message: Message) -> Iterator[dict[str, Any]]:
        given = json.loads(message[1])
        if not made:  # the first message is the template
            with timed(setup["seconds"]):
                made.append(_rendering(given))
            yield {}
            return
        for row in given:
            with timed(setup["seconds"]):
                answer = _answer(made[0], message[0]["mode"], Row(**row))
            yield answer

    def answer(channel: Channel, message: Message) -> bool:
        try:
            for found in answers(message):
                channel.send({}, json.dumps(found).encode())
        except (RunawayError, MemoryError) as error:
            channel.send({"runaway": error.args if isinstance(error, RunawayError) else ("MemoryError", "")})
            return False
        return True

    return answer


def _rendering(given: dict[str, Any]) -> Rendering:
    today = datetime.date.fromisoformat(given["today"])
    return Rendering(given["template"], Names(*given["names"]), given["variables"], today)


def _answer(rendering: Rendering, mode: str, row: Row) -> dict[str, Any]:
    made: str | Marked | Answers | Dropped
    if mode in ("text", "text_prompt"):
        made = rendering.text(row, mode == "text_prompt")
    elif mode == "prompt":
        made = rendering.prompt(row)
    else:
        made = rendering.training(row, mode == "answers")
    return {"text": made} if isinstance(made, str) else made._asdict()


if __name__ == "__main__":
    main()
