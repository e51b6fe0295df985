# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A character-level GPT, from scratch
#
# A language model guesses what comes next. This one reads characters, guesses the next character, and begins with
# random numbers: everything that it will know of spelling, words and layout it has from one text of half a million
# characters. On a laptop that takes some minutes.
#
# Run the cells in order. Run again, a cell does nothing twice: what is prepared stays prepared, and training goes on
# where it was. Everything is written below the folder `char-gpt`; remove that to begin anew.

# %%
import itertools
import lzma
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np

import tilth

FOLDER = Path("char-gpt")
STEPS = int(os.environ.get("NOTEBOOK_STEPS", "1500"))  # updates of the weights; the test suite asks for fewer

# %% [markdown]
# ## 1. The text
#
# Any text of some hundred kilobytes will do. Tiny Shakespeare (`tinyshakespeare.txt`, 1.1 MB, in the repository of
# char-rnn) is what most people begin with: put it beside this notebook, or name your own text in `NOTEBOOK_TEXT`, as
# a path or as an address (with `NOTEBOOK_SHA256`, another file than the one you mean is refused). Where there is
# none, a text is taken that comes with every Python: the chapters of the language reference, which `help("for")`
# shows.

# %%
wanted = os.environ.get("NOTEBOOK_TEXT", "tinyshakespeare.txt")
if wanted.startswith(("http://", "https://")):
    source = {"url": wanted, "sha256": os.environ.get("NOTEBOOK_SHA256")}
elif Path(wanted).exists():
    source = {"path": wanted}
else:
    from pydoc_data.topics import topics

    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "text.txt").write_text("\n\n".join(topics.values()), encoding="utf-8")
    source = {"path": str(FOLDER / "text.txt")}
print(source)

# %% [markdown]
# ## 2. The recipe
#
# All that decides the result stands in one recipe: the same keys as in a YAML file for the command line. A key that
# does not exist, or a value that cannot be meant, is an error here and now.
#
# - `split`: the last tenth of the text is held out. The model never learns from it, so it can be measured there.
# - `tokenizer: char`: every character that occurs is a token of its own.
# - `model`: four layers, 128 numbers for each position, and at most 64 characters in view. These are the settings of
#   nanoGPT for laptops.
# - `batch_tokens`: each update learns from 768 characters: 12 pieces of 64.

# %%
recipe = tilth.make_recipe(
    {
        "name": "char-gpt",
        "data": {"sources": [source], "clean": "none", "split": {"validation": 0.1, "by": "tail"}},
        "tokenizer": {"kind": "char"},
        "model": {
            "preset": "gpt2",
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "hidden_size": 128,
            "context_length": 64,
            "bias": False,
            "dropout": 0.0,
        },
        "train": {
            "steps": STEPS,
            "batch_tokens": 768,
            "optimizer": {"lr": 3e-3, "beta2": 0.99, "weight_decay": 0.1},
            "schedule": {"name": "cosine", "warmup_steps": min(100, STEPS // 10), "final": 0.1},
            "seed": 1337,
        },
        "evaluate": {"every": max(1, STEPS // 6)},
        "sample": {"every": max(1, STEPS // 3), "prompts": ["\n"], "max_new_tokens": 120},
    }
)

# %% [markdown]
# ## 3. From text to numbers
#
# Preparing reads the text, divides it and writes it as tokens. *Look at* the counts: nothing is dropped without one.

# %%
dataset = tilth.prepare(recipe, FOLDER / "work")
tokenizer = dataset.tokenizer
train = dataset.stream("train")
print({split: facts["tokens"] for split, facts in dataset.facts["splits"].items()})
print("dropped:", dataset.facts["rules"]["dropped"])
print("vocabulary:", tokenizer.vocab_size, "ids")
print("'the' becomes", tokenizer.encode("the"), "and comes back as", repr(tokenizer.decode(tokenizer.encode("the"))))

# %% [markdown]
# Two figures to keep in mind, before anything is learned. A model that knows nothing gives every id the same chance:
# its loss is ln(vocabulary). One that knows how frequent each character is, and nothing else, gets the entropy of
# these frequencies. Loss below that is knowledge of what stands *before* a character.

# %%
start = train.read(0, min(train.tokens, 200_000)).tolist()
shares = [count / len(start) for count in Counter(start).values()]
chance = math.log(tokenizer.vocab_size)
frequencies = -sum(share * math.log(share) for share in shares)
print(f"loss by chance {chance:.2f}; by the frequencies of characters {frequencies:.2f}")

# %% [markdown]
# ## 4. Look before you spend
#
# `check` is `tilth check`: it builds the very rows that training will read. What is trained stands in `[[ ]]`: here
# every character but the first, for each is predicted from those before it.

# %%
found = tilth.check(recipe, FOLDER / "work")
assert found.ok, found.errors
print(found.rows[0])
forecast = found.plain()["forecast"]
print(f"{forecast['parameters']:,} parameters, {forecast['steps']:,} steps, {forecast['epochs']:.2f} times the text")
print("warnings:", [fault.message for fault in found.warnings])

# %% [markdown]
# ## 5. Train
#
# A step takes 12 pieces of text, lets the model guess every next character, and moves all weights a little so that
# the true ones become more likely. *Look at* the samples: letters, then words, then lines. The run folder holds all
# of it; stopped (Kernel, Interrupt), this cell goes on where it was.


# %%
def show(event):
    """What `train` tells as it goes: steps are many, so only passes over held-out text and samples are printed."""
    kind = type(event).__name__
    if kind == "EvaluationRecord":
        print(f"step {event.step}: held-out loss {event.metrics['loss']:.3f}")
    elif kind == "SampleRecord":
        print(f"step {event.step} writes:\n{event.text}\n")


result = tilth.train(recipe, FOLDER / "run", FOLDER / "work", emit=show)
print(result["stopped_by"], "after", result["step"], "steps,", round(result["seconds"]), "seconds")

# %% [markdown]
# The curve of the loss, a bar for each part of the run. It falls steeply while the model learns which characters are
# frequent, then slowly, while it learns words. If it *rises* near the end on held-out text alone, the model learns
# the text by heart: more text, a smaller model or `dropout` help. `char-gpt/run/report.html` has the same with
# curves.


# %%
def bars(values, width=60):
    """Numbers as a line of bars, the lowest the shortest."""
    parts = [float(np.mean(part)) for part in np.array_split(values, min(width, len(values)))]
    low, span = min(parts), (max(parts) - min(parts)) or 1.0
    return "".join("▁▂▃▄▅▆▇█"[round(7 * (part - low) / span)] for part in parts)


records = tilth.history(FOLDER / "run")
losses = [step.loss for step in records.steps]
print(bars(losses), f"{losses[0]:.2f} to {losses[-1]:.2f}")
print("held out:", [(one.step, round(one.metrics["loss"], 3)) for one in records.evaluations])

# %% [markdown]
# ## 6. Measure
#
# A full pass over the held-out text. *Look at* bits per byte: it says into how many bits the model would squeeze each
# byte of text that it has never seen, and can be compared with any other model, and with a program that compresses (8
# is no compression at all). At this size and after so few steps the two are about equal, and which is ahead depends on
# the text; more steps put the model ahead.

# %%
metrics = tilth.evaluate(FOLDER / "run")
held_out = dataset.stream("validation")
text = tokenizer.decode(held_out.read(0, held_out.tokens).tolist()).encode()
print(f"loss {metrics.loss:.3f} ({chance:.2f} by chance, {frequencies:.2f} by frequencies)")
print(f"its first guess is the next character {metrics.accuracy:.0%} of the time")
print(f"{metrics.bits_per_byte:.2f} bits per byte")
print(f"{8 * len(lzma.compress(text, preset=9)) / len(text):.2f} bits per byte: xz on the same text")

# %% [markdown]
# ## 7. Let it write
#
# Text is drawn one character at a time from the model's own chances. `temperature` sharpens (below 1) or flattens
# them: low is repetitive, high is wild. The same seed gives the same text.

# %%
model = tilth.load(FOLDER / "run")
for temperature in (0.3, 0.8, 1.2):
    text = model.generate("The ", max_new_tokens=150, temperature=temperature, seed=1)
    print(f"--- temperature {temperature}\n{text}\n")

# %% [markdown]
# ## 8. Look inside
#
# `logits` are the scores from which these chances are made. Where is the model sure, and where not? After `th` most
# texts leave little choice; after a space nearly everything may follow.

# %%
for prompt in ("th", "the ", "wh"):
    scores = model.logits(model.tokenizer.encode(prompt))[-1]
    chances = np.exp(scores - scores.max())
    chances /= chances.sum()
    best = [(model.tokenizer.decode([int(one)]), f"{chances[one]:.0%}") for one in np.argsort(-chances)[:5]]
    print(repr(prompt), best)

# %% [markdown]
# And how good is each guess as the model reads on? With more in view it guesses better: the mean loss at each
# position of a row, over some of the held-out text.

# %%
size = model.config.context_length
rows = [held_out.read(at, size + 1).tolist() for at in itertools.islice(range(0, held_out.tokens - size, size), 50)]
by_position = []
for row in rows:
    scores = model.logits(row[:-1])
    scores -= scores.max(-1, keepdims=True)
    chances = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    by_position.append(-chances[np.arange(size), row[1:]])
means = np.mean(by_position, axis=0)
print(bars(means), f"first {means[0]:.2f}, last {means[-1]:.2f}")

# %% [markdown]
# ## What to try
#
# - **Longer**: `STEPS = 3000` and run all again. It goes on from the last step; only how long a run lasts may change.
# - **Another model**: `hidden_size` 256, six layers, 128 characters in view. It is another run, so give it a folder
#   of its own (`FOLDER / "wider"`); the prepared text is used again.
# - **By heart**: train on 20 kB of text and see held-out loss rise while training loss falls; then set `dropout:
#   0.2`.
# - **Larger tokens**: `tokenizer: {kind: bpe, vocab_size: 1024}`. Loss is then by token and no longer comparable;
#   bits per byte is.
# - **Your text**: `NOTEBOOK_TEXT=diary.txt`.
#
# The other notebook, [lora_chat.py](lora_chat.py), teaches a model to answer questions.
