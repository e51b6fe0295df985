"""What is measured of answers: which questions count, what bears loss, and what form alone is worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.generate.helpers import random_model
from tilth.distributed.runtime import Runtime
from tilth.evaluation.answers import Pair, answer_batches, drawn, overlap, without_copies
from tilth.evaluation.evaluator import evaluate
from tilth.tokenizer.chat import EncodedChat

CONTEXT = 12


def pair(number: int, answer: str, kind: str = "function") -> Pair:
    return Pair(f"question:{number}", kind, "group", f"What is {number}?", answer)


def test_copies_are_left_out_and_what_is_only_alike_stays() -> None:
    trained = [pair(0, "Return the name of the current process."), pair(1, "Close it.")]
    copies = ["return the NAME of the current process", "Close it!", "Return a name of the current process."]
    others = ["Return the number of open files.", "Close the connection.", "Open it now."]
    held_out = [pair(n, answer) for n, answer in enumerate(copies + others, 10)]
    assert [kept.answer for kept in without_copies(held_out, trained)] == others
    assert without_copies(held_out, []) == held_out


def test_the_draw_depends_on_the_places_alone() -> None:
    pairs = [pair(number, "x") for number in range(50)]
    some = drawn(pairs, 10)
    assert len(some) == 10 and drawn(pairs[::-1], 10) == some and some != pairs[:10]
    assert set(drawn([*pairs, pair(99, "x")], 11)) >= set(some) - {some[-1]}, "one more question moves one at most"


@torch.no_grad()
def test_the_loss_is_that_of_each_conversation_by_itself() -> None:
    model = random_model(context_length=CONTEXT)
    draw = np.random.default_rng(1)
    encoded = []
    for length in (2, 5, 9, 13, 20):  # the last is longer than the context: cut, and the first 12 of its tokens read
        ids, trained = draw.integers(0, model.config.vocabulary, length), draw.random(length) < 0.6
        trained[1] = True
        encoded.append(EncodedChat(ids.astype(np.uint32), trained, ended=True))
    loss, tokens = 0.0, 0
    for one in encoded:
        ids = one.ids[: CONTEXT + 1].astype(np.int64)
        chances = model.logits(model(torch.from_numpy(ids[None, :-1])))[0].double().log_softmax(-1)
        for place in range(len(ids) - 1):
            if one.trained[place + 1]:
                loss, tokens = loss - float(chances[place, ids[place + 1]]), tokens + 1
    found = evaluate(model, answer_batches(encoded, CONTEXT, rows=2), 0, Runtime(torch.device("cpu")))
    assert found.tokens == tokens and math.isclose(found.loss, loss / tokens, rel_tol=1e-5)


def test_what_form_alone_is_worth() -> None:
    pairs = [pair(0, "Return the sun."), pair(1, "Return the moon."), pair(2, "a, b", "parameters")]
    pairs.append(pair(3, "c, d", "parameters"))
    assert overlap(pairs, [one.answer for one in pairs]) == pytest.approx((1.0, (2 / 3 + 2 / 3 + 0 + 0) / 4))
    assert overlap(pairs, ["", "", "c", "x"]) == pytest.approx((0.0, 2 / 3 / 4)), "each beside the next of its kind"
    assert overlap([], []) == (0.0, 0.0)
