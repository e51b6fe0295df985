"""Generation after a short prompt, greedy or drawn, by tilth's engine and by transformers, from the same weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.training import gpt2_config
from benchmarks.worker import Turns, repeat

PROMPT = 16


def prepare(folder: str, options: dict[str, Any]) -> None:
    """A GPT-2 of random weights in a Hugging Face folder, with a tokenizer of bytes that tilth can read."""
    import torch
    import transformers

    from tilth.tokenizer import TokenizerConfig, train_tokenizer

    torch.manual_seed(1)
    config = gpt2_config(options, bos_token_id=0, eos_token_id=0)
    transformers.GPT2LMHeadModel(config).save_pretrained(Path(folder) / "model")
    train_tokenizer(TokenizerConfig(kind="byte"), []).save(Path(folder) / "model")


def _prompt(options: dict[str, Any]) -> list[int]:
    return [(7 * place + 3) % min(options["vocab"], 256) for place in range(PROMPT)]


def _timed(write: Callable[[], int], options: dict[str, Any]) -> dict[str, float]:
    start = time.perf_counter()
    count = write()
    seconds = time.perf_counter() - start
    assert count == options["new"] * options["batch"], f"{count} tokens were written"
    return {"speed": count / seconds}


def tilth(turns: Turns, options: dict[str, Any]) -> None:
    """The engine behind `tilth generate --dtype … --temperature …`."""
    from tilth.generate.config import SamplingConfig
    from tilth.generate.engine import generate_ids
    from tilth.jobs.load import load

    model = load(Path(options["folder"]) / "model", device="cpu", dtype=options["dtype"]).model
    prompt = _prompt(options)

    def write() -> int:
        sampling, batch, new = SamplingConfig(temperature=options["temperature"]), options["batch"], options["new"]
        ids = generate_ids(model, prompt, sampling, samples=batch, max_new_tokens=new)
        return sum(token is not None for row in ids for token in row)

    repeat(turns, lambda: _timed(write, options))


def transformers(turns: Turns, options: dict[str, Any]) -> None:
    """`generate` of transformers, in the precision that is asked for."""
    import torch
    import transformers as package

    model: Any = package.GPT2LMHeadModel.from_pretrained(
        Path(options["folder"]) / "model", dtype=getattr(torch, options["dtype"])
    )
    model.eval()
    model.generation_config.eos_token_id = None  # tilth's side looks for no end either
    ids = torch.tensor([_prompt(options)] * options["batch"])
    settings = {"do_sample": options["temperature"] > 0, "max_new_tokens": options["new"], "pad_token_id": 0}
    if settings["do_sample"]:  # from all tokens, as tilth's side does
        settings |= {"temperature": options["temperature"], "top_k": 0, "top_p": 1.0}

    def write() -> int:
        mask = torch.ones_like(ids)
        out = model.generate(ids, attention_mask=mask, **settings)
        return int(out[:, ids.shape[1] :].numel())

    repeat(turns, lambda: _timed(write, options))
