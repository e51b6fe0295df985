"""All benchmarks, in the order of RESULTS.md. Goals are those that the project set itself before it measured."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, Metric, System

TOKENS = {"speed": Metric("tokens/s")}
MEGABYTES = {"speed": Metric("MB/s")}
MEDIUM = {"layers": 6, "heads": 6, "width": 384, "context": 256}
SMALL = {"layers": 4, "heads": 4, "width": 128, "context": 64}
GPT2 = {"layers": 12, "heads": 12, "width": 768, "context": 1024}
TINY = {"layers": 1, "heads": 2, "width": 32, "context": 32}
LETTERS = 65
RECIPES = Path(__file__).parents[1] / "recipes"
NANO_STEPS = 2000
TRANSFORMERS = ("transformers", "accelerate", "torch")
DEV = "pip install -c constraints.txt -e '.[dev]'"
FILTERS = ("chain", "gopher_quality", "gopher_repetition", "c4", "fineweb")


@dataclass(frozen=True)
class Settings:
    """What the command line says.

    Attributes:
        quick: work so small that its figures say nothing: to see that all runs.
        nanogpt: a checkout of nanoGPT; None: its model is written anew (nano.py).
        peer_python: a Python with datatrove[processing] and orjson.
        text: tiny Shakespeare.
        recipe: of training to a loss, in place of the benchmark's own.
        sets: `--set` of tilth's recipes.
    """

    quick: bool = False
    nanogpt: str | None = None
    peer_python: str = sys.executable
    text: str | None = None
    recipe: str | None = None
    sets: tuple[str, ...] = ()


def suite(settings: Settings) -> list[Bench]:
    """Every benchmark, of the size that the settings ask for."""
    return [
        _training(settings, "train-10m", MEDIUM, 64, warm=1, steps=(3, 1, 2, 1, 2), minutes=6, goals=(4.5, None, 3.5)),
        _training(settings, "train-1m", SMALL, 12, warm=20, steps=(100,) * 5, minutes=3.2, goals=(2.5, None, None)),
        _to_loss(settings, 1.886, SMALL, 12, "fast", NANO_STEPS, 5, 5, warm=20, steps=200),
        _to_loss(settings, 1.4697, MEDIUM, 64, "good", 1750, 12, 60, warm=1, steps=3, long=True),
        _generation(settings, "generate-10m", MEDIUM, LETTERS, batch=1, new=200, goal=4),
        _generation(settings, "generate-10m-batch-8", MEDIUM, LETTERS, batch=8, new=200, goal=4),
        _generation(settings, "generate-124m", GPT2, 50257, batch=1, new=48, goal=2),
        _generation(settings, "generate-30m-drawn", MEDIUM, 50257, batch=4, new=48, goal=None, temperature=0.8),
        _learning(settings),
        _encoding(settings),
        _lora(settings, "fp32", minutes=1.5),
        _lora(settings, "bf16", minutes=1),
        _lora(settings, "bf16", shape="llama-0.5b", minutes=3),
        _packing(settings),
        _near_duplicates(settings, "near-duplicates", 40_000, minutes=13),
        _near_duplicates(settings, "near-duplicates-120k", 100_000, minutes=32, long=True),
        _filters(settings),
        _scaling(settings),
    ]


def _training(
    settings: Settings,
    name: str,
    shape: Mapping[str, int],
    rows: int,
    *,
    warm: int,
    steps: tuple[int, ...],
    minutes: float,
    goals: tuple[float | None, float | None, float | None],
) -> Bench:
    if settings.quick:
        shape, rows, warm, steps = TINY, 2, 2, (2,) * 5
    about = (
        f"Training a GPT of {shape['layers']} layers, {shape['width']} wide, on rows of {shape['context']} characters, "
        f"{rows} in a step, vocabulary {LETTERS}, no dropout, AdamW. tilth is its own training "
        "job with all that it records, with `train.compile: true` and without; nanoGPT is its loop as it runs on a CPU "
        "(fp32, eager), and the same model with bf16, `torch.compile` and fused AdamW; the Trainer has its defaults."
    )
    options = _letters(settings, shape, rows, warm=warm, schedule=NANO_STEPS)
    nano, peer = _nano_name(settings), {"function": "benchmarks.training:trainer", "needs": TRANSFORMERS[:2]}
    more: dict[str, Any] = {**peer, "packages": TRANSFORMERS, "remedy": DEV}
    tilth = _tilth("benchmarks.training:tilth", {"set": (*settings.sets, "train.compile=true")})
    systems: tuple[System, ...] = (
        tilth,
        _nano("train", nano, settings, tuned=False, target=goals[0]),
        _nano("train", f"{nano} bf16 + compile", settings, tuned=True, target=goals[1]),
        System("Trainer fp32", options={"bf16": False}, **more),
        System("Trainer bf16", options={"bf16": True}, target=goals[2], **more),
    )
    systems = tuple(
        dataclasses.replace(system, options={**system.options, "steps": count})
        for system, count in zip(systems, steps, strict=True)  # turns of about the same length
    )
    plain = {**systems[0].options, "set": settings.sets}
    systems = (systems[0], dataclasses.replace(tilth, name="tilth, not compiled", options=plain), *systems[1:])
    return Bench(name, about, TOKENS, systems, minutes, prepare="benchmarks.training:prepare", options=options)


def _letters(settings: Settings, shape: Mapping[str, int], rows: int, *, warm: int, schedule: int) -> dict[str, Any]:
    """What all that learn letters are given."""
    return {
        "shape": shape,
        "rows": rows,
        "vocab": LETTERS,
        "text": settings.text,
        "warm": warm,
        "lr": 1e-3,
        "schedule": schedule,
    }


def _tilth(function: str, options: Mapping[str, Any] | None = None, packages: tuple[str, ...] = ("torch",)) -> System:
    return System("tilth", function, options or {}, packages=("tilth", *packages))


def _nano_name(settings: Settings) -> str:
    return "nanoGPT" if settings.nanogpt else "nanoGPT (written anew)"


def _nano(function: str, name: str, settings: Settings, *, tuned: bool, target: float | None) -> System:
    options = {"checkout": settings.nanogpt, "tuned": tuned}
    return System(name, f"benchmarks.nano:{function}", options, packages=("torch",), target=target)


def _to_loss(
    settings: Settings,
    loss: float,
    shape: Mapping[str, int],
    rows: int,
    recipe: str,
    needed: int,
    goal: float,
    minutes: float,
    *,
    warm: int,
    steps: int,
    long: bool = False,
) -> Bench:
    """`needed` are the steps after which nanoGPT is there; ours is `recipes/shakespeare-char-{recipe}.yaml`."""
    about = (
        f"Tiny Shakespeare to a validation loss of {loss}. tilth: the whole process of `tilth train`, data prepared, "
        "to a model whose full pass over the validation text is that good, another seed each "
        f"turn. nanoGPT: the time of its steps alone, fp32 and without dropout, x the {needed:,} that it takes there "
        f"({shape['layers']} layers, {shape['width']} wide, {rows} rows of {shape['context']})."
    )
    options = {**_letters(settings, shape, rows, warm=warm, schedule=needed), "steps": steps, "loss": loss}
    sets: tuple[str, ...] = settings.sets
    if settings.quick:
        options |= {"shape": TINY, "warm": 2, "steps": 2, "loss": 10.0}
        sets = (*sets, "train.steps=3", "model.hidden_size=32")
    ours = {"recipe": settings.recipe or str(RECIPES / f"shakespeare-char-{recipe}.yaml"), "set": sets}
    return Bench(
        f"to-loss-{loss:g}",
        about,
        {"time": Metric("s", False), "loss": Metric("nats", compared=False)},
        (
            _tilth("benchmarks.to_loss:tilth", ours),
            _nano("to_loss", _nano_name(settings), settings, tuned=False, target=goal),
        ),
        minutes,
        prepare="benchmarks.training:prepare",
        options=options,
        blocked=None if settings.text else "tiny Shakespeare is needed: name its file with --text",
        long=long,
        repeats=3 if long else 5,
    )


def _generation(
    settings: Settings,
    name: str,
    shape: Mapping[str, int],
    vocab: int,
    *,
    batch: int,
    new: int,
    goal: float | None,
    temperature: float = 0,
) -> Bench:
    if settings.quick:
        shape, vocab, new = TINY, LETTERS, 4
    way = f"Generation at temperature {temperature:g}" if temperature else "Greedy generation"
    about = (
        f"{way} of {new} tokens after a prompt of 16, batch {batch}: a GPT-2 of {shape['layers']} layers, "
        f"{shape['width']} wide, vocabulary {vocab:,}, the same random weights for all. "
        "tilth holds them in bf16 (`--dtype bfloat16`), and in fp32 as it does by default."
    )
    more: dict[str, Any] = {"needs": ("transformers",), "packages": ("transformers", "torch"), "remedy": DEV}
    halves, whole = (_tilth("benchmarks.generation:tilth", {"dtype": dtype}) for dtype in ("bfloat16", "float32"))
    function = "benchmarks.generation:transformers"
    return Bench(
        name,
        about,
        TOKENS,
        (
            halves,
            dataclasses.replace(whole, name="tilth, fp32"),
            System("transformers fp32", function, {"dtype": "float32"}, target=goal, **more),
            System("transformers bf16", function, {"dtype": "bfloat16"}, target=goal, **more),
        ),
        minutes=1,
        prepare="benchmarks.generation:prepare",
        options={"shape": shape, "vocab": vocab, "batch": batch, "new": new, "temperature": temperature},
    )


def _learning(settings: Settings) -> Bench:
    megabytes, entries = (0.3, 400) if settings.quick else (12.2, 8192)
    return Bench(
        "bpe-training",
        f"Learning a byte-level BPE of {entries:,} entries from {megabytes} MB of Python source, on all threads.",
        MEGABYTES,
        (
            _tilth("benchmarks.tokenizing:learn_tilth", packages=("regex", "numpy")),
            _package("tokenizers", "benchmarks.tokenizing:learn_tokenizers"),
            System(
                "rustbpe",
                "benchmarks.tokenizing:learn_rustbpe",
                needs=("rustbpe",),
                packages=("rustbpe",),
                remedy="pip install rustbpe",
            ),
        ),
        minutes=1.2,
        options={"megabytes": megabytes, "entries": entries},
    )


def _package(name: str, function: str) -> System:
    return System(name, function, needs=(name,), packages=(name,), remedy=DEV)


def _encoding(settings: Settings) -> Bench:
    megabytes, entries = (0.3, 400) if settings.quick else (12.2, 8192)
    return Bench(
        "encode",
        f"Encoding {megabytes} MB of Python source into a file of ids, on all threads, with one vocabulary of "
        f"{entries:,}; all write the same ids. tilth's file is a shard: with hashes, offsets and a manifest, durable "
        "when it is told as done.",
        MEGABYTES,
        (
            _tilth("benchmarks.tokenizing:encode_tilth", packages=("tiktoken",)),
            _package("tiktoken", "benchmarks.tokenizing:encode_tiktoken"),
            _package("tokenizers", "benchmarks.tokenizing:encode_tokenizers"),
        ),
        minutes=1,
        prepare="benchmarks.tokenizing:prepare",
        options={"megabytes": megabytes, "entries": entries},
        agree="ids",
    )


def _lora(settings: Settings, precision: str, *, minutes: float, shape: str = "gpt2") -> Bench:
    small = shape == "gpt2"
    rows, tokens = (1, 16) if settings.quick else (4 if small else 2, 256)
    options = {"rows": rows, "tokens": tokens, "precision": precision, "steps": 1, "shape": shape}
    peer = _package("peft", "benchmarks.lora:suite")
    packages = ("peft", *TRANSFORMERS)
    peers, beside, goal, memory = {"peft": "fp32"}, "", None, {"memory": round(1 / 0.7, 2)}  # at most 0.7 of a peer's
    if precision == "bf16":
        # tilth's job holds frozen weights in the precision of the products; to PEFT both are given.
        peers, beside = {**peers, "peft, weights in bf16": "bf16"}, "; tilth holds frozen weights in bf16"
        goal = 1.5  # in the peer's best setting, which bf16 is
    return Bench(
        f"lora-{precision}" if small else f"lora-0.5b-{precision}",
        f"A LoRA step (rank 16, all linear layers) of {'a GPT-2 of 124M' if small else 'a Llama of 494M'} parameters, "
        f"{rows} rows of {tokens} tokens, {precision}, and the peak resident memory of its process. tilth is its own "
        "step as a job runs, with compiled layers where a row says so; PEFT's model runs in a bare loop, lighter than "
        f"the Trainer{beside}.",
        {"speed": Metric("tokens/s"), "memory": Metric("MiB", False)},
        (
            _tilth("benchmarks.lora:suite", {"side": "tilth"}),
            dataclasses.replace(_tilth("benchmarks.lora:suite", {"side": "compiled"}), name="tilth, compiled layers"),
            *(
                dataclasses.replace(
                    peer,
                    name=name,
                    options={"side": "peft", "held": held},
                    packages=packages,
                    target=goal,
                    targets=memory,
                )
                for name, held in peers.items()
            ),
        ),
        minutes,
        options=options,
    )


def _packing(settings: Settings) -> Bench:
    work = {"context": 256, "rows": 2, "steps": 1, "hidden": 32} if settings.quick else {}
    options = {"context": 1024, "rows": 8, "steps": 4, "hidden": 256, **work}
    ways = ("packed", "padded to the context", "padded to the longest", "grouped by length")
    goals = {"padded to the longest": 2.0}
    return Bench(
        "packing",
        "Questions and answers of the standard library as batches of rows, through forward and backward of tilth's "
        "model: packed, and padded in three ways; useful are positions that are text.",
        {"speed": Metric("useful tokens/s"), "useful": Metric("% of positions")},
        tuple(
            System(way, "benchmarks.packing:suite", {"way": way}, packages=("tilth", "torch"), target=goals.get(way))
            for way in ways
        ),
        minutes=2,
        ours="packed",
        options=options,
    )


def _near_duplicates(settings: Settings, name: str, documents: int, *, minutes: float, long: bool = False) -> Bench:
    documents = 120 if settings.quick else documents  # of few the start of a process is most of ours
    own = settings.peer_python == sys.executable
    peer = System(
        "datatrove",
        "benchmarks.near_duplicates:suite",
        {"side": "datatrove", "peer_python": settings.peer_python},
        target=20,
        needs=("datatrove", "orjson", "spacy") if own else (),
        packages=("datatrove",) if own else (),
        remedy="name a Python that has datatrove[processing] and orjson with --peer-python",
    )
    return Bench(
        name,
        f"Near-deduplication end to end, processes from JSON Lines to the documents that stay: {documents:,} "
        "documents of 2 kB and a fifth as many planted near-duplicates, word 5-grams, 14 x 8, two tasks. Recall: of "
        "pairs at Jaccard 0.75 and more; precision: how much of what went was a near-duplicate.",
        {
            "speed": Metric("documents/s"),
            "recall": Metric("%", compared=False),
            "precision": Metric("%", compared=False),
        },
        (_tilth("benchmarks.near_duplicates:suite", {"side": "tilth"}, packages=("numpy",)), peer),
        minutes=minutes,
        prepare="benchmarks.near_duplicates:prepare",
        options={"documents": documents},
        long=long,
    )


def _filters(settings: Settings) -> Bench:
    megabytes = 0.2 if settings.quick else 1.5
    return Bench(
        "filters",
        f"Quality filters on {megabytes} million characters of what comes with Python, one process, documents a "
        "second of processor time: the chain of four, and each by itself.",
        {**{name: Metric("documents/s") for name in FILTERS}, "kept": Metric("% of documents", compared=False)},
        (
            _tilth("benchmarks.filters:suite", {"side": "tilth"}, packages=("regex", "numpy")),
            System(
                "datatrove",
                "benchmarks.filters:suite",
                {"side": "datatrove"},
                needs=("datatrove", "spacy"),
                packages=("datatrove", "spacy"),
                remedy=DEV,
            ),
        ),
        minutes=1.5,
        options={"megabytes": megabytes},
    )


def _scaling(settings: Settings) -> Bench:
    megabytes = 0.2 if settings.quick else 4.0
    return Bench(
        "scaling",
        "What more text costs: `tilth prepare` from JSON Lines to shards (standard cleaning, near-deduplication, a "
        f"tokenizer of 8,192 entries learned) on {megabytes:g} MB and on multiples of it; memory is that of the "
        "largest process.",
        {"speed": Metric("MB/s"), "time": Metric("s", False), "memory": Metric("MiB", False)},
        tuple(
            System(f"{times} x", "benchmarks.scaling:suite", {"times": times}, packages=("tilth",))
            for times in (1, 2, 4)
        ),
        minutes=2,
        ours=None,
        options={"megabytes": megabytes},
    )
