"""`tilth export`: what other programs load gives what tilth gives, says what it was made of, and goes onto a hub."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import peft
import pytest
import torch
import transformers
import yaml

import tilth
from tests.data.hub_server import COMMIT, HubServer, running_hub
from tests.jobs.bases import tuning, write_base
from tests.jobs.conftest import SMALL, Cli, Said, call
from tests.jobs.helpers import WORDS, write_recipe, write_texts
from tests.model.adapter_helpers import peft_quietly
from tests.model.families import SHAPES, from_config, quiet, save
from tilth.core.files import read_json
from tilth.tokenizer import TokenizerConfig, train_tokenizer
from tilth.tokenizer.chat import ChatEncoder
from tilth.tokenizer.templates import built_in

pytestmark = pytest.mark.slow

TINY = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_size": 32}
TRAIN = {"steps": 3, "batch_tokens": 256, "precision": "fp32", "optimizer": {"lr": 0.05}}
ADAPTER = {"rank": 4, "targets": ["q_proj", "v_proj", "down_proj"]}
HELLO = [{"role": "user", "content": "the soil?"}]


def done(said: Said) -> None:
    assert said.code == 0, said.err


def recipe(folder: Path, name: str, **sections: Any) -> str:
    train = {**TRAIN, **sections.pop("train", {})}
    (folder / f"{name}.yaml").write_text(json.dumps({"name": name, **sections, "train": train}))
    return f"{name}.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/pre (from scratch), runs/talk (an adapter beside it, with new tokens), runs/gpt2 (one beside a folder)."""
    folder = tmp_path_factory.mktemp("made")
    write_texts(folder / "texts", 20)
    text = {"path": "texts", "license": "CC0-1.0"}
    model = {"preset": "llama-tiny", **TINY, "context_length": 64}
    done(
        call(folder, "train", recipe(folder, "pre", data={"sources": [text]}, tokenizer={"kind": "byte"}, model=model))
    )
    draw = random.Random(1)
    pairs = [{"q": f"the {draw.choice(WORDS)}?", "a": " ".join(draw.choices(WORDS, k=3))} for _ in range(60)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    talk = recipe(
        folder,
        "talk",
        data={
            "sources": [{"path": "pairs.jsonl", "map": {"prompt": "q", "completion": "a"}, "license": "MIT | mine"}],
            "clean": "none",
            "deduplicate": "none",
            "chat": {"template": "chatml"},
            "packing": {"too_long": "drop"},
        },
        tokenizer={"special_tokens": ["<|im_start|>", "<|im_end|>"]},
        model={"from": "runs/pre", "context_length": 64},
        adapter=ADAPTER,
        train={"objective": "sft"},
    )
    done(call(folder, "train", talk))
    theirs = transformers.GPT2Config(**{**SHAPES["gpt2"][2], "vocab_size": 260, "n_positions": 64})
    save(from_config(theirs), folder / "gpt2")
    train_tokenizer(TokenizerConfig(kind="byte"), ["the soil"]).save(folder / "gpt2")
    said = read_json(folder / "gpt2" / "tokenizer_config.json")
    said.pop("tilth")  # another program's, from here on
    (folder / "gpt2" / "tokenizer_config.json").write_text(json.dumps({**said, "bos_token": "<|endoftext|>"}))
    beside = recipe(
        folder,
        "beside-gpt2",
        data={"sources": [text]},
        model={"from": "gpt2", "context_length": 32},
        adapter={"rank": 4, "dora": True},
    )
    done(call(folder, "train", beside))
    done(call(folder, "export", "runs/pre", "--out", "base"))
    return folder


@torch.no_grad()
def scores(model: Any, ids: list[int]) -> np.ndarray:  # type: ignore[type-arg]
    result: np.ndarray = model.eval()(torch.tensor([ids])).logits[0].float().numpy()  # type: ignore[type-arg]
    return result


def test_a_merged_adapter_answers_in_transformers_as_beside_its_base_here(made: Path, tmp_path: Path) -> None:
    said = call(made, "export", "runs/talk", "--out", tmp_path / "out", "--json").json()
    assert (said["format"], said["architecture"], said["pushed"]) == ("hf", "LlamaForCausalLM", None)
    ours = tilth.load(made / "runs" / "talk")
    with ChatEncoder(ours.tokenizer, built_in("chatml")) as encoder:
        ids, stops = encoder.prompt(HELLO), encoder.stop_ids()
    with quiet():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.apply_chat_template(HELLO, add_generation_prompt=True)["input_ids"] == ids
    assert set(theirs.generation_config.eos_token_id) == stops and len(stops) == 2
    np.testing.assert_allclose(scores(theirs, ids), ours.logits(ids), atol=1e-4)
    plain = tilth.load(made / "runs" / "pre").logits([97])
    assert np.abs(plain - ours.logits([97])[:, : plain.shape[1]]).max() > 1e-2, "the adapter does something"
    written = theirs.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False, pad_token_id=0)[0].tolist()
    expected = list(ids)
    while len(expected) < len(written):
        expected.append(int(ours.logits(expected)[-1].argmax()))
    assert written == expected


def test_peft_loads_the_adapter_beside_the_exported_base(made: Path, tmp_path: Path) -> None:
    said = call(
        made, "export", "runs/talk", "--to", "peft", "--base", "base", "--out", tmp_path / "out", "--json"
    ).json()
    assert said["format"] == "peft" and "adapter_model.safetensors" in said["files"]
    ours = tilth.load(made / "runs" / "talk")
    ids = [ours.tokenizer.special_tokens["<|im_start|>"], *ours.tokenizer.encode("the soil")]
    with quiet():
        theirs = peft_quietly(peft.AutoPeftModelForCausalLM.from_pretrained, tmp_path / "out")
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    np.testing.assert_allclose(scores(theirs, ids), ours.logits(ids), atol=1e-5)
    assert tokenizer.decode(ids) == "<|im_start|>the soil" and tokenizer.chat_template
    ends = transformers.GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id  # as the card says
    assert (
        ends == sorted(ours.stop_ids)
        and "GenerationConfig.from_pretrained(" in (tmp_path / "out/README.md").read_text()
    )
    again = tilth.load(tmp_path / "out")
    np.testing.assert_allclose(again.logits(ids), ours.logits(ids), atol=1e-6)


def test_an_adapter_of_a_folder_of_hugging_face_needs_no_other_base(made: Path, tmp_path: Path) -> None:
    call(made, "export", "runs/beside-gpt2", "--to", "peft", "--out", tmp_path / "out", "--json").json()
    call(made, "export", "runs/beside-gpt2", "--out", tmp_path / "merged", "--checkpoint", "3", "--json").json()
    ours, ids = tilth.load(made / "runs" / "beside-gpt2"), list(range(60, 80))
    with quiet():
        theirs = peft_quietly(peft.AutoPeftModelForCausalLM.from_pretrained, tmp_path / "out")
        merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    np.testing.assert_allclose(scores(theirs, ids), ours.logits(ids), atol=1e-5)
    np.testing.assert_allclose(scores(merged, ids), ours.logits(ids), atol=1e-4)
    said = read_json(tmp_path / "merged" / "generation_config.json")
    assert (said["bos_token_id"], said["eos_token_id"]) == (256, [3, 256]), "the base stops at 3, and so does the run"
    assert not (tmp_path / "merged" / "chat_template.jinja").exists()


def test_a_template_of_the_recipe_goes_out_in_the_place_of_the_checkpoints(
    made: Path, cli: Cli, tmp_path: Path
) -> None:
    """And where the recipe asks for the checkpoint's, that one does, with what ends an answer by it."""
    shutil.copytree(made / "gpt2", tmp_path / "base")
    answer = "{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}"
    own = "{% for m in messages %}{{ m.role }}: " + answer + "{% endfor %}"
    (tmp_path / "base" / "chat_template.jinja").write_text(own)
    pairs = {"path": str(made / "pairs.jsonl"), "map": {"prompt": "q", "completion": "a"}}
    for name, template, tokens, ends in (
        ("own", "checkpoint", [], [3, 256]),
        ("other", "chatml", ["<|im_start|>", "<|im_end|>"], [3, 256, 258]),
    ):
        file = recipe(
            tmp_path,
            name,
            data={"sources": [pairs], "clean": "none", "deduplicate": "none", "chat": {"template": template}},
            tokenizer={"special_tokens": tokens},
            model={"from": "base", "context_length": 64},
            train={"objective": "sft", "steps": 1},
        )
        done(cli("train", file))
        done(cli("export", f"runs/{name}", "--out", name + "-out"))
        source = (tmp_path / f"{name}-out" / "chat_template.jinja").read_text()
        assert (source == own) == (template == "checkpoint") and ("im_end" in source) == (template == "chatml")
        assert read_json(tmp_path / f"{name}-out" / "generation_config.json")["eos_token_id"] == ends


def test_a_base_that_does_not_serve_is_refused(made: Path, cli: Cli, tmp_path: Path) -> None:
    run, out = made / "runs" / "talk", tmp_path / "out"
    peft_words = ("export", run, "--to", "peft", "--out", out)
    cli(*peft_words).expect_fault(2, "runs/pre is in tilth's own format", "--to hf --out BASE", "--base BASE")
    cli(*peft_words, "--base", made / "gpt2").expect_fault(4, "other weights", "runs/pre")
    cli("export", made / "runs" / "pre", "--to", "peft", "--out", out).expect_fault(2, "is no adapter", "--to hf")
    assert not out.exists()


def test_a_masked_model_fills_masks_in_a_pipeline(made: Path, cli: Cli, tmp_path: Path) -> None:
    mlm = recipe(
        tmp_path,
        "mlm",
        data={"sources": [{"path": str(made / "texts")}]},
        tokenizer={"vocab_size": 320, "special_tokens": ["<|mask|>"]},
        model={"preset": "bert-mini", "num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 32,
               "context_length": 32, "dropout": 0.0},
        train={"objective": "masked_lm", "masking": {"whole_word_mask": True}, "steps": 4},
    )  # fmt: skip
    done(cli("train", mlm))
    said = cli("export", "runs/mlm", "--out", "out", "--json").json()
    assert said["architecture"] == "BertForMaskedLM"
    with quiet():
        fill = transformers.pipeline("fill-mask", model=str(tmp_path / "out"))
        found = fill("the <|mask|> and the rain", top_k=3)
    ours = tilth.load(tmp_path / "runs" / "mlm")
    before, after = ours.tokenizer.encode("the "), ours.tokenizer.encode(" and the rain")
    ids = [*before, ours.tokenizer.special_tokens["<|mask|>"], *after]
    best = np.argsort(-ours.logits(ids)[len(before)])[:3]
    assert [one["token"] for one in found] == best.tolist()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "pipeline_tag: fill-mask" in card and "<|mask|>" in card and "whole_word_mask True" in card
    shutil.copytree(tmp_path / "runs" / "mlm" / "final", tmp_path / "copy")  # which needs no run
    assert cli("export", "copy", "--out", "again", "--json").json()["parameters"] == said["parameters"]
    first, again = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("out", "again"))
    assert first == again


def test_the_card_says_what_the_run_was_made_of(made: Path, cli: Cli, tmp_path: Path) -> None:
    cli("export", made / "runs" / "talk", "--out", "out")
    card = (tmp_path / "out" / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["tilth"],
    }  # fmt: skip
    splits = read_json(made / "runs" / "talk" / "data.json")
    facts = tilth.Dataset(Path(splits["folder"]), read_json(Path(splits["folder"]) / "manifest.json")).facts["splits"]
    train, validation = facts["train"]["documents"], facts["validation"]["documents"]
    assert f"| pairs.jsonl | MIT &#124; mine | {train} | {validation} |" in body
    result = read_json(made / "runs" / "talk" / "result.json")
    assert f"| loss (nats a token) | {result['validation']['loss']:.4f} |" in body
    assert "merged into them" in body and "of pre, and" in body and "rank 4" in body and "| objective | sft |" in body
    assert str(made) not in card, "no path of this machine"


def test_the_card_of_a_model_without_its_run_says_so(made: Path, cli: Cli, tmp_path: Path) -> None:
    cli("export", made / "gpt2", "--out", "out", "--dtype", "bfloat16")
    assert "nothing here tells how it was trained" in (tmp_path / "out" / "README.md").read_text()
    assert read_json(tmp_path / "out" / "config.json")["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ("a place to write to", "--out DIR")),
        (["--out", "x", "--to", "peft", "--dtype", "float16"], ("--dtype without --to hf",)),
        (["--out", "x", "--base", "y"], ("--base without --to peft",)),
        (["--out", "x", "--private"], ("--private without --push",)),
        (["--out", "."], ("exists", "does not exist yet")),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    made: Path, cli: Cli, words: list[str], parts: tuple[str, ...]
) -> None:
    cli("export", made / "runs" / "pre", *words).expect_fault(2, *parts)


# The hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HF_TOKEN", "secret-of-a-test")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        server.login = "secret-of-a-test"
        yield server


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the hub's library, of its own client
def test_an_export_goes_onto_the_hub_and_says_which_commit_it_is(
    hub: HubServer, made: Path, cli: Cli, tmp_path: Path
) -> None:
    said = cli("export", made / "runs" / "pre", "--out", "out", "--push", "org/new", "--private", "--json")
    pushed = said.json()["pushed"]
    assert pushed == {"repository": "org/new", "commit": COMMIT, "address": f"{hub.address}/org/new/commit/{COMMIT}"}
    assert hub.made == [{"name": "new", "organization": "org", "visibility": "private"}]
    assert hub.commit == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert b'model="org/new"' in hub.commit["README.md"]
    assert not any(b"secret-of-a-test" in data for data in hub.commit.values()) and "secret" not in said.out + said.err
    hub.commit.clear()
    assert cli("export", "out", "--push", "org/new").code == 0, "what was written before goes as it is"
    assert "model.safetensors" in hub.commit


def test_what_keeps_a_push_from_the_hub_is_told_before_the_work(
    hub: HubServer, made: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("export", made / "runs" / "pre", "--out", "out", "--push")
    cli(*words, "no-org").expect_fault(2, "'no-org'", "ORG/NAME")
    hub.refuse = (403, "")
    cli(*words, "org/new").expect_fault(3, "org/new", "403", "token")
    hub.refuse = None
    with monkeypatch.context() as without:
        without.delenv("HF_TOKEN")
        cli(*words, "org/new").expect_fault(2, "nobody is logged in", "hf auth login", "HF_TOKEN")
    with monkeypatch.context() as offline:
        offline.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        cli(*words, "org/new").expect_fault(3, "HF_HUB_OFFLINE")
    with monkeypatch.context() as gone:
        gone.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        cli(*words, "org/new").expect_fault(3, "cannot be reached", "network")
    assert not (tmp_path / "out").exists()


def test_what_may_not_go_onto_the_hub_stays(hub: HubServer, made: Path, cli: Cli, tmp_path: Path) -> None:
    cli("export", made / "gpt2", "--push", "org/new").expect_fault(2, "was not written by `tilth export`")
    run = made / "runs" / "beside-gpt2"
    cli("export", run, "--to", "peft", "--out", "adapter")
    cli("export", "adapter", "--push", "org/new").expect_fault(
        2, "as its base, which nobody else has", "--base ORG/NAME"
    )
    cli("export", made / "gpt2", "--out", "out")
    (tmp_path / "out" / "README.md").write_text("another card")
    cli("export", "out", "--push", "org/new").expect_fault(3, "README.md")
    assert not hub.commit


def test_the_card_counts_one_document_as_one(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.txt").write_text("".join(f"A sentence of some words, number {n} of them.\n" for n in range(40)))
    sets = [*SMALL, "train.steps=1", "train.schedule.warmup_steps=0"]
    write_recipe(tmp_path / "r.yaml", "a.txt")
    done(cli("train", "r.yaml", "--run", "runs/one", sets=sets))
    done(cli("export", "runs/one", "--out", "out"))
    assert "\n1 document was read, 0 dropped by rule; " in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("adapter", [None, {"rank": 4}])
@pytest.mark.parametrize("kind", ["llama", "neox"])  # a model of tilth's own, and a class of transformers'
def test_every_id_that_ends_a_text_of_the_base_and_how_it_is_sampled_go_out(
    tmp_path: Path, kind: str, adapter: dict[str, Any] | None
) -> None:
    """Without a template too; so the exported model stops where base and run stop."""
    base = write_base(tmp_path / "base", kind)
    asked = torch.tensor([tilth.load(base).tokenizer.encode("the soil")])
    with quiet():
        greedy = transformers.AutoModelForCausalLM.from_pretrained(base)
    written = greedy.generate(asked, do_sample=False, max_new_tokens=12, eos_token_id=None, pad_token_id=0)[0].tolist()
    end = written[asked.shape[1] + 2]
    said = {
        "eos_token_id": [0, end],
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.9,
        "transformers_version": "4.1",
    }
    (base / "generation_config.json").write_text(json.dumps(said))
    tuning(tmp_path, "base", adapter=adapter, train={"steps": 1, "optimizer": {"lr": 1e-6}})
    done(call(tmp_path, "train", "r.yaml"))
    done(call(tmp_path, "export", "runs/tuned", "--out", "hf"))
    places = [tmp_path / "hf"]
    if adapter:
        done(call(tmp_path, "export", "runs/tuned", "--to", "peft", "--out", "peft"))
        places.append(tmp_path / "peft")
    run = tilth.load(tmp_path / "runs" / "tuned")
    assert run.stop_ids == {0, end}
    for place in places:
        again = tilth.load(place)
        assert again.stop_ids == {0, end, run.tokenizer.end_of_text}
        assert again.generate("the soil", temperature=0) == run.generate("the soil", temperature=0)
        kept = transformers.GenerationConfig.from_pretrained(place)
        assert (kept.do_sample, kept.temperature, kept.top_p) == (True, 0.6, 0.9)
    with quiet():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    stopped = theirs.generate(asked, do_sample=False, max_new_tokens=12, pad_token_id=0)[0].tolist()
    assert stopped == written[: written.index(end, asked.shape[1]) + 1]
