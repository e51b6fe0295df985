"""A prompt that ends in a space is answered as the text that it begins would go on."""

from __future__ import annotations

import torch

from tests.generate.helpers import random_model
from tests.jobs.helpers import WORDS
from tilth.generate.config import SamplingConfig
from tilth.generate.text import TextOptions, generate_texts, stream_texts
from tilth.tokenizer import Tokenizer, TokenizerConfig, train_tokenizer

TOKENIZER: Tokenizer = train_tokenizer(TokenizerConfig(vocab_size=300), [" ".join(WORDS) + "\n"] * 3)
GREEDY = TextOptions(max_new_tokens=6, sampling=SamplingConfig(temperature=0))


def test_the_space_is_left_to_the_answer() -> None:
    model = random_model(vocab_size=TOKENIZER.vocab_size)
    text = generate_texts(model, TOKENIZER, "the ", GREEDY)[0]
    assert text and not text.startswith(" ")
    ids = TOKENIZER.encode("the")
    with torch.no_grad():
        logits = model.logits(model(torch.tensor([ids])))[0, -1]
    opens = [i for i in range(299) if TOKENIZER.token_bytes(i)[:1] == b" " and TOKENIZER.token_bytes(i).strip()]
    best = max(opens, key=lambda token: float(logits[token]))
    assert best != int(logits.argmax()), "the test can tell: freely, it would have gone on otherwise"
    assert (" " + text).startswith(TOKENIZER.decode([best]))


def test_other_prompts_are_taken_as_they_are() -> None:
    model = random_model(vocab_size=TOKENIZER.vocab_size)
    for prompt in ("the", "the  ", "the\n", "", "\t "):
        ids = TOKENIZER.encode(prompt) or [TOKENIZER.end_of_text]
        with torch.no_grad():
            first = int(model.logits(model(torch.tensor([ids])))[0, -1, : TOKENIZER.vocab_size].argmax())
        pieces = "".join(piece for _, piece in stream_texts(model, TOKENIZER, prompt, GREEDY))
        expected = "" if first == TOKENIZER.end_of_text else TOKENIZER.decode([first], errors="ignore")
        assert pieces.startswith(expected), prompt
