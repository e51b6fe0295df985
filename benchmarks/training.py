"""Training: what all systems read, tilth by its own job, and transformers' Trainer. (nanoGPT is in nano.py.)"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.worker import Pace, Turns

LETTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # the 65 of tiny Shakespeare
FOREVER = 10**6  # steps: the harness ends it


class _OverError(Exception):
    """No more turns."""


def prepare(folder: str, options: dict[str, Any]) -> None:
    """The text (a million letters at random where none is given), and the ids of its first nine tenths, uint16."""
    text = Path(options["text"]).read_text("utf-8") if options["text"] else made_up(1_000_000)
    kinds = sorted(set(text))
    place = {letter: number for number, letter in enumerate(kinds)}
    ids = np.array([place[letter] for letter in text[: len(text) * 9 // 10]], np.uint16)
    ids.tofile(Path(folder) / "ids.bin")
    (Path(folder) / "text.txt").write_text(text, "utf-8")
    assert len(kinds) == options["vocab"], f"{len(kinds)} kinds of characters, {options['vocab']} are meant"


def made_up(count: int) -> str:
    """So many letters at random: how fast a step is does not depend on them."""
    return "".join(random.Random(0).choices(LETTERS, k=count))


def recipe(options: dict[str, Any]) -> dict[str, Any]:
    """tilth's recipe for the shape: what is not named is its default, precision and micro-batch too. On the CPU, where
    the peers are.
    """
    shape = options["shape"]
    return {
        "name": "bench",
        "data": {
            "sources": [{"path": str(Path(options["folder"]) / "text.txt")}],
            "clean": "none",
            "split": {"validation": 0.1, "by": "tail"},
        },
        "tokenizer": {"kind": "char"},
        "model": {
            "preset": "gpt2",
            "num_hidden_layers": shape["layers"],
            "num_attention_heads": shape["heads"],
            "hidden_size": shape["width"],
            "context_length": shape["context"],
            "activation": "gelu",
            "bias": False,
            "dropout": 0.0,
        },
        "train": {
            "steps": FOREVER,
            "device": "cpu",
            "batch_tokens": options["rows"] * shape["context"],
            "optimizer": {"name": "adamw", "lr": options["lr"], "beta2": 0.99, "weight_decay": 0.1},
            "schedule": {"name": "cosine", "warmup_steps": 100, "final": 0.1},
            "grad_clip": 1.0,
            "checkpoint": {"every_steps": None, "every_minutes": None},
        },
        "evaluate": {"every": None},
    }


def _pace(turns: Turns, options: dict[str, Any]) -> Pace:
    tokens = options["steps"] * options["rows"] * options["shape"]["context"]
    return Pace(turns, options["warm"], options["steps"], lambda seconds: {"speed": tokens / seconds})


def tilth(turns: Turns, options: dict[str, Any]) -> None:
    """`tilth.train`, which calls back after each step that it has recorded."""
    import contextlib

    import tilth as package
    from tilth.core.rundir import StepRecord

    pace = _pace(turns, options)

    def emit(event: object) -> None:
        if isinstance(event, StepRecord) and not pace.more():
            raise _OverError

    made = package.make_recipe(recipe(options), options["set"])
    with contextlib.suppress(_OverError):
        package.train(made, run="run", workspace="work", workers=1, emit=emit)


class _Rows:
    """Windows of the ids, for the Trainer."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.ids = np.fromfile(Path(options["folder"]) / "ids.bin", np.uint16).astype(np.int64)
        self.context: int = options["shape"]["context"]

    def __len__(self) -> int:
        return len(self.ids) - self.context

    def __getitem__(self, start: int) -> dict[str, Any]:
        import torch

        row = torch.from_numpy(self.ids[start : start + self.context])
        return {"input_ids": row, "labels": row}


def gpt2_config(options: dict[str, Any], **more: Any) -> Any:
    """transformers' config of the shape."""
    import transformers

    shape = options["shape"]
    return transformers.GPT2Config(
        vocab_size=options["vocab"],
        n_positions=shape["context"],
        n_embd=shape["width"],
        n_layer=shape["layers"],
        n_head=shape["heads"],
        **more,
    )


def trainer(turns: Turns, options: dict[str, Any]) -> None:
    """transformers' Trainer with its defaults, but for `bf16`; dropout is 0, as everywhere here."""
    import torch
    import transformers

    pace = _pace(turns, options)

    class Called(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = not pace.more()

    torch.manual_seed(1)
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = gpt2_config(options, activation_function="gelu", **no_dropout)
    arguments = transformers.TrainingArguments(
        output_dir="out",
        per_device_train_batch_size=options["rows"],
        max_steps=FOREVER,
        learning_rate=options["lr"],
        adam_beta2=0.99,
        weight_decay=0.1,
        warmup_steps=100,
        lr_scheduler_type="cosine",
        bf16=options["bf16"],
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    model, rows = transformers.GPT2LMHeadModel(config), _Rows(options)
    done = transformers.Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[Called()])
    done.train()
