"""The recipe as a whole: what its sections must agree on, what overrides what, and that it says everything."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tilth.core.config import parse, parse_yaml
from tilth.core.errors import RecipeError
from tilth.core.faults import _all_paths
from tilth.jobs.peer_names import PEER_NAMES, PEER_NOTES
from tilth.jobs.recipe import Recipe, load_recipe, load_shipped, make_recipe, shipped_recipe, shipped_recipes
from tilth.model.config import PRESETS

BASE: dict[str, Any] = {
    "name": "small",
    "data": {"sources": [{"path": "a.txt"}]},
    "model": {"context_length": 64},
    "train": {"steps": 10, "batch_tokens": 128},
}
PAIR = {"prompt": "p", "completion": "c"}
STOPPING = {"metric": "accuracy", "patience": 2}


BYTES = {"kind": "byte", "special_tokens": ["<|mask|>"]}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over` put in, section by section."""
    of_both = [key for key in base.keys() & over.keys() if isinstance(over[key], dict) and isinstance(base[key], dict)]
    both = {key: merged(base[key], over[key]) for key in of_both}
    return {**base, **over, **both}


def test_the_base_of_these_tests_is_a_recipe() -> None:
    recipe = make_recipe(BASE)
    assert (recipe.train.steps, recipe.model.context_length, recipe.tokenizer.kind) == (10, 64, "bpe")


@pytest.mark.parametrize(
    ("change", "message", "remedy"),
    [
        ({"train": {"batch_tokens": 100}}, "100 is not a multiple of model.context_length 64", "use 64 or 128"),
        ({"train": {"batch_tokens": 10}}, "batch_tokens 10 is not a multiple", "use 64"),
        ({"train": {"batch_tokens": 0}}, "train.batch_tokens: 0 is too few", "a positive number"),
        ({"train": {"batch_tokens": -64}}, "train.batch_tokens: -64 is too few", "a positive number"),
        ({"train": {"micro_batch": 0}}, "train.micro_batch: 0 is too few", "or auto"),
        ({"train": {"steps": None}}, "nothing ends this run", "give steps, tokens"),
        ({"train": {"steps": None, "convergence": {}}}, "cosine needs to know how long", "give steps"),
        ({"train": {"batch_tokens": "all"}}, "optimizer adamw with batch_tokens all", "together"),
        ({"train": {"optimizer": {"name": "gd"}}}, "optimizer gd with batch_tokens 128", "together"),
        ({"train": {"optimizer": {"momentum": 0.5}}}, "momentum has no meaning for adamw", "remove it"),
        ({"train": {"optimizer": {"name": "sgd", "beta1": 0.5}}}, "beta1 has no meaning for sgd", "remove it"),
        ({"train": {"schedule": {"decay_share": 0.5}}}, "decay_share has no meaning for cosine", "name: wsd"),
        ({"train": {"early_stopping": {}}, "evaluate": {"every": None}}, "early_stopping needs", "evaluate.every"),
        ({"train": {"early_stopping": {}}, "data": {"split": {"validation": 0}}}, "early_stopping needs", "validation"),
        ({"evaluate": {"metrics": []}}, "evaluate.metrics: []", "at least 1 item"),
        ({"model": {"vocab_size": 256}, "tokenizer": {"kind": "byte"}}, "vocab_size 256 is smaller", "leave model."),
        ({"model": {"vocab_size": 257}, "tokenizer": BYTES}, "tokenizer.kind byte: 258", "leave model."),
        ({"model": {"vocab_size": 2}, "tokenizer": {"kind": "char"}}, "tokenizer.kind char: 3", "leave model."),
        ({"train": {"final": "best"}, "data": {"split": {"validation": 0}}}, "final: best needs", "final: last"),
        ({"train": {"final": "best", "checkpoint": {"best": False}}}, "final: best needs", "final: last"),
        ({"data": {"sources": [{"path": "a"}, {"path": "a"}]}}, "'a' stands twice", "another name"),
        ({"data": {"sources": [{"path": "a", "name": "x"}, {"url": "x"}]}}, "not an http or https address", "https://"),
        ({"data": {"split": {"validation": 1}}}, "data.split.validation: 1", "below 1"),
        ({"name": "a/b"}, "'a/b' cannot name a folder", "use letters"),
        ({"name": ".hidden"}, "'.hidden' cannot name a folder", "use letters"),
        ({"name": ""}, "'' cannot name a folder", "use letters"),
        ({"name": "x" * 101}, "cannot name a folder", "use letters"),
        ({"model": {"vocab_size": 100}}, "vocab_size 100 is smaller than tokenizer.", "leave model."),
        ({"model": {"num_attention_heads": 4, "num_key_value_heads": 3}}, "not a multiple of num_key", "use one of"),
        ({"model": {"hidden_size": 20}}, "rotary positions need an even head size", "position: learned"),
        ({"sample": {"temperature": -1}}, "sample.temperature: -1", "at least 0"),
        ({"train": {"objective": "clm"}}, "train.objective: 'clm'", "causal_lm"),
        ({"train": {"objective": "masked_lm"}}, "needs a model that looks both ways", "bert-mini"),
        ({"model": {"preset": "bert-mini"}}, "train.objective causal_lm with model.is_causal false", "masked_lm"),
        ({"adapter": {"rank": 4}}, "there is no model that it could be beside", "model.from"),
        ({"data": {"chat": {"template": "chatml"}}}, "data.chat with train.objective causal_lm", "sft"),
        (
            {"data": {"sources": [{"path": "a", "map": {**PAIR, "tools": "t"}}]}, "train": {"objective": "sft"}},
            "map.tools 't': without data.chat nothing shows the model its tools",
            "data.chat.template",
        ),
        ({"train": {"masking": {}}}, "train.masking: it has no meaning for causal_lm", "masked_lm"),
        ({"model": {"from": "x", "hidden_size": 8}}, "model.hidden_size: it is the checkpoint's own", "remove"),
        (
            {"model": {"from": "x", "context_length": 32}, "tokenizer": {"kind": "char"}},
            "model.from brings its own tokenizer",
            "special_tokens",
        ),
        ({"train": {"steps": 1.5}}, "train.steps: 1.5", "integer"),
        ({"train": {"steps": True}}, "train.steps: True", "integer"),
        ({"train": {"seed": -1}}, "train.seed: -1", "at least 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_together_is_refused(change: dict[str, Any], message: str, remedy: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(merged(BASE, change))
    assert message in caught.value.message and remedy in caught.value.remedy


@pytest.mark.parametrize(
    "change",
    [
        {"train": {"early_stopping": STOPPING}, "evaluate": {"metrics": ["loss"]}},  # shown or not, it is measured
        {"train": {"schedule": {"warmup_steps": 10_000}}},  # a run that is cut short: a warning when it starts
        {"model": {"vocab_size": 258}, "tokenizer": BYTES},
    ],
)
def test_what_can_be_meant_is_taken(change: dict[str, Any]) -> None:
    assert make_recipe(merged(BASE, change)).name == BASE["name"]


@pytest.mark.parametrize(
    ("optimizer", "decay", "clip"),
    [
        ({"name": "adamw"}, 0.1, 1.0),
        ({"name": "muon"}, 0.1, 1.0),
        ({"name": "sgd"}, 0.0, 1.0),
        ({"name": "gd"}, 0.0, None),
        ({"name": "gd", "weight_decay": 0.2}, 0.2, None),
        ({}, 0.1, 1.0),
    ],
)
def test_plain_descent_is_plain_unless_the_recipe_says_otherwise(
    optimizer: dict[str, Any], decay: float, clip: float | None
) -> None:
    batch = {"batch_tokens": "all"} if optimizer.get("name") == "gd" else {}
    recipe = make_recipe(merged(BASE, {"train": {"optimizer": optimizer, **batch}}))
    assert (recipe.train.optimizer.weight_decay, recipe.train.grad_clip) == (decay, clip)
    assert make_recipe(recipe.plain()) == recipe, "as it comes back from the run folder"
    given = make_recipe(recipe.plain(), ["train.grad_clip=0.5", "train.optimizer.weight_decay=0.3"])
    assert (given.train.optimizer.weight_decay, given.train.grad_clip) == (0.3, 0.5)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe({"name": "x", "data": {"sources": []}, "train": {"stepps": 3, "seed": "one"}, "modl": {}})
    for part in ("data.sources", "train.stepps: unknown key", "train.seed: 'one'", "modl: unknown key"):
        assert part in caught.value.message
    assert "did you mean `steps`?" in caught.value.remedy and "did you mean `model`?" in caught.value.remedy


@pytest.mark.parametrize(
    ("change", "path", "meant"),
    [
        ({"Data": {}}, "Data", "data"),
        ({"model": {"hiddenSize": 8}}, "model.hiddenSize", "hidden_size"),
        ({"model": {"n_layers": 8}}, "model.n_layers", "num_hidden_layers"),
        ({"model": {"num_heads": 8}}, "model.num_heads", "num_attention_heads"),
        ({"model": {"layers": 8}}, "model.layers", "num_hidden_layers"),
        ({"train": {"LR": 1}}, "train.LR", "train.optimizer.lr"),
        ({"train": {"learning_rate": 1}}, "train.learning_rate", "train.optimizer.lr"),
        ({"train": {"learning rate": 1}}, "train.learning rate", "train.optimizer.lr"),
        ({"learning_rate": 1}, "learning_rate", "train.optimizer.lr"),
        ({"train": {"warmup_steps": 1}}, "train.warmup_steps", "train.schedule.warmup_steps"),
        ({"train": {"optimizer": {"grad_clip": 1}}}, "train.optimizer.grad_clip", "train.grad_clip"),
        ({"path": "a.txt"}, "path", "data.sources.0.path"),
        ({"train": {"max_steps": 10}}, "train.max_steps", "steps"),
        ({"train": {"num_train_epochs": 3}}, "train.num_train_epochs", "epochs"),
        ({"train": {"optimizer": {"learning_rate": 1}}}, "train.optimizer.learning_rate", "lr"),
        ({"train": {"warmup_iters": 1}}, "train.warmup_iters", "train.schedule.warmup_steps"),
        ({"train": {"block_size": 1}}, "train.block_size", "model.context_length"),
        ({"max_iters": 10}, "max_iters", "train.steps"),
        ({"model": {"n_embd": 8}}, "model.n_embd", "hidden_size"),
        ({"adapter": {"r": 8}}, "adapter.r", "rank"),
        ({"adapter": {"lora_alpha": 8}}, "adapter.lora_alpha", "alpha"),
        ({"train": {"eval_interval": 8}}, "train.eval_interval", "evaluate.every"),
        ({"train": {"stepz": 8}}, "train.stepz", "steps"),
        ({"data": {"sources": [{"path": "a", "Field": "b"}]}}, "data.sources.0.Field", "field"),
        (
            {"data": {"sources": [{"path": "a", "map": {"text": "b"}}]}},
            "data.sources.0.map.text",
            "data.sources.0.field",
        ),
        ({"data": {"sources": [{"path": "a", "map": {"input": "b"}}]}}, "data.sources.0.map.input", "prompt"),
        ({"train": {"checkpoint": {"every": 5}}}, "train.checkpoint.every", "every_minutes` or `every_steps"),
        ({"train": {"checkpoint": {"keeps": 5}}}, "train.checkpoint.keeps", "keep"),
    ],
)
def test_an_unknown_key_is_named_whole_with_the_one_that_was_meant(
    change: dict[str, Any], path: str, meant: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(merged(BASE, change))
    assert f"recipe: {path}: unknown key" in caught.value.message
    assert caught.value.remedy == f"{path}: did you mean `{meant}`?"


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"data": {"sources": "my text.txt"}}, "data.sources: give a list, as [{path: my text.txt}]"),
        ({"data": {"sources": "a: b"}}, "data.sources: give a list, as [{path: 'a: b'}]"),
        ({"data": {"sources": "*.txt"}}, "data.sources: give a list, as [{path: '*.txt'}]"),
        ({"data": {"sources": {"path": "a"}}}, "data.sources: give a list, as [{path: my-text.txt}]"),
        ({"data": {"sources": ["a.txt"]}}, "data.sources.0: give keys and values, as {path: a.txt}"),
        ({"train": {"optimizer": "adam"}}, "train.optimizer: give keys and values, as {name: adamw, lr: 1e-3}"),
        (
            {"data": {"sources": [{"path": "a.jsonl", "map": "alpaca"}]}},
            "data.sources.0.map: give keys and values, as {messages: messages} "
            "or {prompt: question, completion: answer}",
        ),
        ({"train": {"device": "gpu"}}, "train.device: did you mean `cuda`? give 'auto', 'cpu', 'cuda' or 'mps'"),
        ({"train": 100}, "train: give keys and values, as {steps: 1000}"),
        ({"sample": {"prompts": "The"}}, "sample.prompts: give a list, as [The]"),
        ({"sample": {"prompts": "2024"}}, "sample.prompts: give a list, as ['2024']"),
        ({"data": {"clean": [{"language": {"keep": "en"}}]}}, "data.clean: keep: give a list, as [en]"),
        ({"data": {"clean": [{"c4": {"ends": "."}}]}}, "data.clean: ends: give a list, as ['.']"),
        ({"data": {"clean": [{"pii": {"kinds": "email"}}]}}, "data.clean: kinds: give a list, as [email]"),
        ({"data": {"clean": [{"pii": {"allow": {"a": "b"}}}]}}, "data.clean: allow: give a list"),
        ({"train": {"schedule": "cosine"}}, "train.schedule: give keys and values"),
    ],
)
def test_a_value_of_another_kind_is_told_as_it_may_be_written(change: dict[str, Any], remedy: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(merged(BASE, change))
    assert caught.value.remedy == remedy


def test_a_section_that_is_missing_is_told_as_it_may_be_written() -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe({"name": "small"})
    assert caught.value.remedy == "add `data: {sources: [{path: my-text.txt}]}`; add `train: {steps: 1000}`"
    written = dict(part.partition("`")[2].rstrip("`").split(": ", 1) for part in caught.value.remedy.split("; "))
    make_recipe({"name": "small", **{key: parse_yaml(value, key) for key, value in written.items()}})


def test_names_of_peers_lead_to_keys_and_are_none() -> None:
    paths = [re.sub(r"\.0\b", "", path) for path in _all_paths(Recipe)]
    assert {*PEER_NAMES.values()} <= {*paths} and len(PEER_NAMES) > 60
    assert not {*PEER_NAMES} & {path.rpartition(".")[2] for path in paths}
    assert {*PEER_NOTES} <= {*PEER_NAMES.values(), *PEER_NAMES}
    with pytest.raises(RecipeError, match="unknown key") as caught:
        make_recipe(merged(BASE, {"train": {"schedule": {"warmup_ratio": 0.1}}}))
    assert "did you mean `warmup_steps`? it counts steps; left out, it is a tenth" in caught.value.remedy
    with pytest.raises(RecipeError) as caught:
        make_recipe(merged(BASE, {"train": {"batch_size": 32}}))
    assert caught.value.remedy.endswith(
        "did you mean `batch_tokens`? it counts tokens: rows times model.context_length"
    )


def test_an_unknown_key_like_nothing_lists_the_known_ones() -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe(merged(BASE, {"train": {"float": 1}}))
    assert (
        "train.float: unknown key" in caught.value.message and "train.float: known keys here: " in caught.value.remedy
    )


@pytest.mark.parametrize("preset", [["a"], {"name": "gpt2"}, 2])
def test_a_preset_that_is_no_name_is_refused(preset: object) -> None:
    with pytest.raises(RecipeError, match=r"model\.preset: .* it must be a text"):
        make_recipe(merged(BASE, {"model": {"preset": preset}}))


def test_defaults_give_way_to_the_preset_the_preset_to_the_file_and_the_file_to_set(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    train = {"steps": 10, "batch_tokens": 256}
    file.write_text(json.dumps({**BASE, "train": train, "model": {}}))
    default = load_recipe(file).model
    assert (default.num_hidden_layers, default.activation, default.norm) == (4, "swiglu", "rmsnorm")
    preset = {"preset": "gpt2", "context_length": 64}
    file.write_text(json.dumps({**BASE, "model": preset}))
    model = load_recipe(file).model
    assert (model.num_hidden_layers, model.activation, model.norm) == (12, "gelu_tanh", "layernorm")
    assert model.context_length == 64, "the file goes before the preset, which says 1024"
    file.write_text(json.dumps({**BASE, "model": {**preset, "num_hidden_layers": 3}}))
    assert load_recipe(file).model.num_hidden_layers == 3
    assert load_recipe(file, ["model.num_hidden_layers=5"]).model.num_hidden_layers == 5
    changed = load_recipe(file, ["model.preset=gpt2-medium"]).model
    assert (changed.num_hidden_layers, changed.hidden_size) == (3, PRESETS["gpt2-medium"]["hidden_size"])
    last = load_recipe(file, ["train.steps=7", "train.steps=9", "train.optimizer={lr: 1e-2}", "evaluate.every=null"])
    assert (last.train.steps, last.train.optimizer.lr, last.evaluate.every) == (9, 0.01, None)


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_says_everything_when_it_is_resolved(name: str) -> None:
    recipe = load_shipped(name)
    plain = recipe.plain()
    assert make_recipe(plain) == recipe
    assert make_recipe(json.loads(json.dumps(plain))) == recipe, "as it comes back from the run folder"
    assert make_recipe(yaml.safe_load(yaml.safe_dump(plain))) == recipe
    assert recipe.name == name
    assert make_recipe(plain, ["train.seed=99"]) != recipe, "the comparison can fail"


@pytest.mark.parametrize(
    "source",
    [
        {"path": "a.csv", "template": "{a}: {b}"},
        {"path": "a.csv", "map": {"prompt": "a", "completion": "b"}},
        {"path": "a.json", "map": {"messages": "m"}, "records": "data"},
        {"hub": "org/name", "field": "body"},
        {"common_crawl": {"index": "records.jsonl"}},
    ],
)
def test_every_kind_of_source_survives_being_resolved(source: dict[str, Any]) -> None:
    recipe = make_recipe(merged(BASE, {"data": {"sources": [source]}}))
    assert make_recipe(recipe.plain()) == recipe, "as it comes back from the run folder"


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_survives_being_resolved(preset: str) -> None:
    objective = "masked_lm" if preset.startswith("bert") else "causal_lm"
    recipe = make_recipe(merged(BASE, {"model": {"preset": preset}, "train": {"objective": objective}}))
    assert make_recipe(recipe.plain()) == recipe


def test_what_starts_from_a_checkpoint_survives_being_resolved() -> None:
    change = {
        "model": {"from": "org/name", "context_length": 32},
        "adapter": {"rank": 4},
        "train": {"objective": "sft"},
    }
    base = {**BASE, "model": {}, "tokenizer": {"special_tokens": ["<|im_end|>"]}}
    recipe = make_recipe(merged(base, change))
    assert recipe.plain()["model"]["from"] == "org/name" and "hidden_size" not in recipe.plain()["model"]
    assert make_recipe(recipe.plain()) == recipe


def test_recipes_that_are_not_there_are_named() -> None:
    scratch = ["mlm", "my-text", "quickstart", "quickstart-chat"]
    characters = ["shakespeare-char", *(f"shakespeare-char-{name}" for name in ("best", "cpu", "fast", "good"))]
    assert shipped_recipes() == ["finetune", "lora", "lora-instruct", *scratch, *characters, "site"]
    with pytest.raises(RecipeError) as caught:
        shipped_recipe("nothing")
    assert "quickstart" in caught.value.remedy


def faulty(path: str, value: object) -> str:
    """What is said of a recipe with this value at a path; nothing where it may stand there, or is in a list."""
    data: dict[str, Any] = {"name": "x", "data": {"sources": [{"path": "a.txt"}]}}
    *above, key = path.split(".")
    place: Any = data
    for name in above:
        place = place.setdefault(name, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        return ""
    place[key] = value
    try:
        parse(Recipe, data)
    except RecipeError as error:
        return error.message
    return ""


def test_what_is_needed_is_said_in_our_words() -> None:
    """Every key, with values of every type: no fault is told as pydantic words it."""
    values = ("", "zzz", -1, 1e9, 3.5, True, None, [], {}, [1], {"a": 1})
    said = {(path, repr(value)): faulty(path, value) for path in _all_paths(Recipe) for value in values}
    assert sum(map(bool, said.values())) > 500
    assert not {place: message for place, message in said.items() if " should " in message}
