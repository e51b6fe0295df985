"""What was read is not read again, and nothing is different for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from tests.generate.helpers import random_model
from tests.model.families import save
from tilth.generate.config import SamplingConfig
from tilth.generate.engine import generate_ids
from tilth.generate.prefix_cache import Memory
from tilth.model.wrapped import AnyModel, load_wrapped

GREEDY = SamplingConfig(temperature=0.0)


def written(model: AnyModel, prompt: list[int], memory: Memory | None = None, count: int = 6, **more: Any) -> list[int]:
    rows = generate_ids(model, prompt, GREEDY, max_new_tokens=count, memory=memory, **more)
    return [token for row in rows for token in row if token is not None]


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory: pytest.TempPathFactory) -> AnyModel:
    folder = tmp_path_factory.mktemp("neox")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.GPTNeoXConfig(vocab_size=250, max_position_embeddings=64, initializer_range=0.4, **sizes)
        save(transformers.GPTNeoXForCausalLM(config), folder)
    return load_wrapped(folder).eval()


def of_kind(kind: str, wrapped: AnyModel) -> AnyModel:
    return wrapped if kind == "wrapped" else random_model(context_length=64)


@pytest.mark.parametrize("kind", ["ours", "wrapped"])
def test_turns_are_those_of_a_model_without_memory(kind: str, wrapped: AnyModel) -> None:
    model, memory = of_kind(kind, wrapped), Memory()
    conversation, fed = [5, 3, 200, 17], []
    for question in ([9, 9, 4], [8], [100, 20, 30, 41]):
        conversation += question
        answer = written(model, conversation, memory)
        assert answer == written(model, conversation)
        fed.append(memory.reused)
        conversation += answer
    assert fed == [0, 12, 19], "all but the last token that was written, and what was asked since"
    assert not memory.ended


@pytest.mark.parametrize("kind", ["ours", "wrapped"])
def test_what_is_no_longer_so_is_read_again(kind: str, wrapped: AnyModel) -> None:
    model, memory = of_kind(kind, wrapped), Memory()
    written(model, [5, 3, 200, 17, 8, 9], memory)
    for prompt in ([5, 3, 200, 1, 2], [5, 3, 200, 1, 2], [7], [7, 1, 2, 3] * 12, [7, 1]):
        assert written(model, prompt, memory) == written(model, prompt)
    written(model, [5, 3, 200, 17, 8, 9], memory)
    written(model, [5, 3, 200, 1, 2], memory)
    assert memory.reused == (3 if kind == "ours" else 0), "a class of transformers may not take tokens back"


def test_a_full_context_ends_the_memory_and_not_the_text() -> None:
    model, memory = random_model(context_length=24), Memory()
    prompt = [5, 3, 200, 17] * 5
    assert written(model, prompt, memory, 30) == written(model, prompt, count=30)
    assert memory.ids == [] and written(model, prompt, memory) == written(model, prompt)
    assert written(model, prompt * 2, memory) == written(model, prompt * 2)


def test_it_stops_when_told_and_knows_whether_a_text_ended() -> None:
    model, memory = random_model(context_length=64), Memory()
    whole = written(model, [5, 3, 200], memory, 12)
    assert not memory.ended
    asked = iter([False, False, False, True])
    assert written(model, [5, 3, 200], memory, 12, stopped=lambda: next(asked)) == whole[:3]
    assert written(model, [5, 3, 200], memory, 12) == whole, "a text that was stopped leaves the memory sound"
    assert written(model, [5, 3, 200], memory, 12, stop_ids={whole[4]})[-1] == whole[4] and memory.ended
