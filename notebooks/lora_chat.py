# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Teach a model to answer: LoRA
#
# A model that was trained on text goes on with text. Asked a question, it goes on with the question. Here it learns
# that an answer follows, from a few dozen pairs, by *LoRA*: its own weights stay as they are, and small matrices
# beside them learn. What comes out is a file of about a megabyte that turns the base into a model that answers.
#
# The base is made here, in a minute or two, so that nothing has to be downloaded; it is tiny, and what it says
# besides what it was taught is nonsense. `NOTEBOOK_BASE` names another: a run or a folder of yours, or a model of the
# hub such as `Qwen/Qwen3-0.6B`. Everything else stays as it is.
#
# Everything is written below the folder `lora-chat`; remove that to begin anew.

# %%
import importlib.util
import json
import os
from pathlib import Path

import tilth

FOLDER = Path("lora-chat")
FOLDER.mkdir(exist_ok=True)
STEPS = int(os.environ.get("NOTEBOOK_STEPS", "300"))  # of each of the two trainings; the test suite asks for fewer
CONTEXT = 128
ANSWERS = FOLDER / "answers"  # what is trained here; another recipe wants another name (see the end)

# %% [markdown]
# ## 1. A base
#
# An ordinary pretraining run: the language reference of Python, byte-pair tokens, a small Llama. The other notebook,
# [char_gpt.py](char_gpt.py), explains each line.

# %%
base = os.environ.get("NOTEBOOK_BASE", "")
if not base:
    from pydoc_data.topics import topics

    (FOLDER / "text.txt").write_text("\n\n".join(topics.values()), encoding="utf-8")
    pretraining = tilth.make_recipe(
        {
            "name": "base",
            "data": {"sources": [{"path": str(FOLDER / "text.txt")}]},
            "tokenizer": {"kind": "bpe", "vocab_size": 1024},
            "model": {
                "preset": "llama-tiny",
                "num_hidden_layers": 2,
                "hidden_size": 128,
                "context_length": CONTEXT,
            },
            "train": {"steps": STEPS, "batch_tokens": 2048, "optimizer": {"lr": 3e-3}},
            "evaluate": {"every": None},
        }
    )
    result = tilth.train(pretraining, FOLDER / "base", FOLDER / "work")
    print("pretrained:", result["step"], "steps, held-out loss", round(result["validation_loss"], 2))
    base = str(FOLDER / "base")

# %% [markdown]
# ## 2. What it shall learn
#
# Pairs of a question and its answer, a line of JSON each. The same answer is asked for in several wordings, so that
# the model learns the matter and not the wording.

# %%
KEYWORDS = {
    "for": "It repeats a block for each item of a series.",
    "while": "It repeats a block as long as a condition holds.",
    "if": "It runs a block when a condition holds.",
    "def": "It makes a function.",
    "class": "It makes a class.",
    "return": "It ends a function and gives its value.",
    "yield": "It hands out a value and waits to go on.",
    "import": "It makes a module's names usable.",
    "raise": "It reports an error.",
    "try": "It runs a block and catches its errors.",
    "with": "It enters a context and leaves it at the end.",
    "assert": "It stops when a condition does not hold.",
    "pass": "It does nothing.",
    "break": "It leaves a loop.",
    "continue": "It goes on with the next round of a loop.",
    "lambda": "It makes a small function without a name.",
}
WORDINGS = ["What does {} do?", "What is {} for?", "Tell me what {} does.", "Explain {} in Python.", "{}?"]
pairs = [
    {"prompt": wording.format(word), "completion": answer} for word, answer in KEYWORDS.items() for wording in WORDINGS
]
(FOLDER / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
print(len(pairs), "pairs, such as", pairs[0])

# %% [markdown]
# ## 3. The recipe
#
# - `map` says which keys hold question and answer, `chat` how they are written for the model: by ChatML, which puts
#   `<|im_start|>user … <|im_end|>` around what each side says.
# - The base has never seen these two marks. `special_tokens` makes each of them one token.
# - `objective: sft`: the answers bear loss, the questions are only read.
# - `packing`: many pairs side by side in one row; they do not see each other.
# - `split`: a fifth of the pairs is held out. Their wording is new to the model, while the answer stands in other
#   pairs: that is what shall be learned here, so taking such pairs out of training (`decontaminate`) is switched off.
#   Where answers must not be known, leave it on.
# - `adapter`: small matrices of rank 8 beside every linear layer.

# %%
sections = {
    "name": "answers",
    "data": {
        "sources": [{"path": str(FOLDER / "pairs.jsonl"), "map": {"prompt": "prompt", "completion": "completion"}}],
        "clean": "none",
        "deduplicate": "none",
        "split": {"validation": 0.2},
        "decontaminate": {"validation": False},
        "chat": {"template": "chatml"},
        "packing": {"too_long": "drop"},
    },
    "tokenizer": {"special_tokens": ["<|im_start|>", "<|im_end|>"]},
    "model": {"from": base, "context_length": CONTEXT},
    "adapter": {"rank": 8, "alpha": 16},
    "train": {
        "objective": "sft",
        "steps": STEPS,
        "batch_tokens": 4 * CONTEXT,
        "optimizer": {"lr": 5e-3, "weight_decay": 0.0},
        "schedule": {"name": "cosine", "warmup_steps": min(20, STEPS // 10), "final": 0.1},
    },
    "evaluate": {"every": max(1, STEPS // 4)},
}
recipe = tilth.make_recipe(sections)

# %% [markdown]
# ## 4. Look before you spend
#
# Most ruined fine-tuning runs are ruined before the first step: a template that the model does not know, an end that
# is not trained (so that it never stops), answers that are cut off or masked. `check` builds the real rows. *Look at*
# the first one: `[[ ]]` is what is trained. It must hold the answers and the `<|im_end|>` that ends each, and nothing
# else.

# %%
found = tilth.check(recipe, FOLDER / "work")
assert found.ok, found.errors
print("\n".join(str(found.rows[0]).splitlines()[:14]))
print()
for fault in found.warnings:
    print(f"warning {fault.rule}: {fault.message}\n  change  {fault.remedy}")

# %% [markdown]
# `leaks` warns that held-out pairs stand in the training text: here that is meant, as said above. `small_validation`
# says that a few hundred held-out tokens give a rough figure; your own data should hold out more. `by_heart` says that
# so few pairs are read many times over: the held-out loss falls at first and then creeps up a little, and here the
# answers are meant to be learned by heart. If the base has no rows for the two marks, `new_tokens` stands among the
# warnings too: their embeddings begin at random, and an adapter leaves embeddings alone, so the model would never learn
# what they mean. The remedy is the line it names: train the embeddings whole. (A checkpoint that knows ChatML, such as
# Qwen's, needs none of this.)

# %%
if any(fault.rule == "new_tokens" for fault in found.warnings):
    sections["adapter"]["modules_to_save"] = ["embed_tokens"]
    recipe = tilth.make_recipe(sections)
    found = tilth.check(recipe, FOLDER / "work")
said = found.plain()
print("warnings now:", [fault.rule for fault in found.warnings])
print(
    f"{said['rows']} pairs to train on; {said['masked']} without a trained token, {said['without_end']} without an end"
)
print({key: said["forecast"][key] for key in ("steps", "epochs", "parameters", "trained_parameters")})
assert found.ok, found.errors

# %% [markdown]
# ## 5. Before
#
# What the base makes of a question. It has no template: it is given the text, and goes on with it.

# %%
QUESTIONS = ["What does for do?", "What is lambda for?", "Tell me what raise does."]
before = tilth.load(base)
for question in QUESTIONS:
    print(question, "->", repr(before.generate(question + "\n", max_new_tokens=24, temperature=0)))

# %% [markdown]
# ## 6. Train
#
# Gradients are made for the adapter alone; the base is held once and never written. Held-out loss is of answers
# alone.


# %%
def show(event):
    """Of what `train` tells as it goes, the passes over held-out pairs."""
    if type(event).__name__ == "EvaluationRecord":
        print(f"step {event.step}: held-out loss {event.metrics['loss']:.3f}")


result = tilth.train(recipe, ANSWERS, FOLDER / "work", emit=show)
print(result["stopped_by"], "after", result["step"], "steps")

# %% [markdown]
# ## 7. After
#
# The same questions, now as messages: the template went with the model, and so did the token at which it stops. And
# the same held-out pairs, measured with and without the adapter. *Look at* both: figures that improve while answers
# read badly, or the other way round, mean that the held-out pairs are not what you care about.

# %%
after = tilth.load(ANSWERS)
for question in QUESTIONS:
    print(question, "->", after.generate([{"role": "user", "content": question}], max_new_tokens=40, temperature=0))
for name, adapter in (("base alone", "none"), ("with adapter", None)):
    metrics = tilth.evaluate(ANSWERS, adapter=adapter)
    print(f"{name}: loss {metrics.loss:.3f}, next token right {metrics.accuracy:.0%} of the time")

# %% [markdown]
# ## 8. Talk
#
# A conversation is a list of messages that grows. In a terminal `tilth chat lora-chat/answers` does this, as it is
# written, with `/reset`, `/system` and `/save`.

# %%
messages = []
for question in ("What does while do?", "What is break for?"):
    messages.append({"role": "user", "content": question})
    messages.append({"role": "assistant", "content": after.generate(messages, max_new_tokens=40, temperature=0)})
for message in messages:
    print(f"{message['role']:>9}: {message['content']}")

# %% [markdown]
# ## 9. Take it elsewhere
#
# Two ways out. `to="hf"` merges the adapter into its base: one model, that transformers, and all that builds on it,
# loads. `to="peft"` writes the adapter alone, to be put beside the base.


# %%
def exported(path, name, **options):
    """An export, made once; its folder must not exist before."""
    out = FOLDER / name
    return out if out.exists() else tilth.export(path, out, **options).folder


merged = exported(ANSWERS, f"{ANSWERS.name}-merged")
plain = base if (Path(base) / "tokenizer.json").exists() or not Path(base).exists() else exported(base, "plain-base")
adapter = exported(ANSWERS, f"{ANSWERS.name}-adapter", to="peft", base=str(plain))
for folder in (merged, adapter):
    print(folder, {file.name: file.stat().st_size for file in sorted(folder.glob("*.safetensors"))})

# %% [markdown]
# Loaded by transformers (and PEFT), they answer as here. Where an answer ends stands in generation_config.json of
# either folder; PEFT reads that of the *base*, which does not know it, so the adapter's is named.

# %%
if importlib.util.find_spec("transformers"):
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(merged)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(merged).eval()
    asked = [{"role": "user", "content": QUESTIONS[0]}]
    inputs = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    length = inputs["input_ids"].shape[1]

    def answer(model, folder):
        """What a model of transformers answers, its most likely words."""
        greedy = {"max_new_tokens": 40, "do_sample": False, "pad_token_id": 0}
        config = transformers.GenerationConfig.from_pretrained(folder, **greedy)
        made = model.generate(**inputs, generation_config=config)
        return tokenizer.decode(made[0, length:], skip_special_tokens=True)

    expected = after.generate(asked, max_new_tokens=40, temperature=0)
    print("transformers:", answer(theirs, merged))
    assert answer(theirs, merged) == expected
    if importlib.util.find_spec("peft"):
        import peft

        beside = peft.AutoPeftModelForCausalLM.from_pretrained(adapter).eval()
        print("PEFT:", answer(beside, adapter))
        assert answer(beside, adapter) == expected

# %% [markdown]
# ## What to try
#
# Another recipe is another model: name it first, `ANSWERS = FOLDER / "answers1"` at the top, and run from section 3 on.
# Another base, or more steps for it (`NOTEBOOK_STEPS`), changes what all of it stands on: remove the folder
# `lora-chat`.
#
# - **Less**: `rank: 1`, or `targets: [q_proj, v_proj]`. How little is enough?
# - **Without `modules_to_save`**: train as the first `check` found it, and see what the warning was worth.
# - **Another template**: `zephyr` or `llama3` instead of `chatml` (with their own `special_tokens`; the error names
#   them).
# - **All weights**: leave `adapter` out. Smaller steps then: `lr: 3e-4`.
# - **A real base**: `NOTEBOOK_BASE=Qwen/Qwen3-0.6B`, with `lr: 2e-4`, your own pairs, and `quantize: nf4` in the
#   adapter where memory is short.
#
# [docs/finetuning.md](../docs/finetuning.md) is the guide to all of it.
