"""`tilth.load` of folders of Hugging Face and of models of a hub on loopback, and out again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import tilth
from tests.data.hub_server import COMMIT, HubServer, running_hub
from tests.model.families import SHAPES, from_config, quiet, save
from tilth.core.errors import CheckpointError, DataError, RecipeError
from tilth.jobs.export import export_model
from tilth.model.wrapped import WrappedModel
from tilth.tokenizer import TokenizerConfig, train_tokenizer

TEXT = "the soil and the seed under deep green rain, and the wind over all of it. " * 4
IDS = list(range(60, 90))


def folder_of(kind: str, folder: Path, **changes: object) -> Path:
    """A random model of transformers with a byte tokenizer beside it."""
    values = {**SHAPES[kind][2], "vocab_size": 260, **changes}
    save(from_config(getattr(transformers, f"{SHAPES[kind][0]}Config")(**values)), folder, max_shard_size="100KB")
    train_tokenizer(TokenizerConfig(kind="byte"), [TEXT]).save(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of("llama3", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, llama: Path) -> Iterator[HubServer]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.chdir(tmp_path)
    with running_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        server.files = {path.name: path.read_bytes() for path in llama.iterdir()}
        server.files |= {"README.md": b"# A model", "pytorch_model.bin": b"x" * 300, "onnx/model.onnx": b"x" * 300}
        yield server


def logits_of(folder: Path, masked: bool = False) -> np.ndarray:  # type: ignore[type-arg]
    auto = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    with quiet(), torch.no_grad():
        result: np.ndarray = auto.from_pretrained(folder).eval()(torch.tensor([IDS])).logits[0].numpy()  # type: ignore[type-arg]
    return result


def test_a_folder_gives_the_scores_and_the_greedy_text_of_transformers(llama: Path) -> None:
    model = tilth.load(llama)
    np.testing.assert_allclose(model.logits(IDS), logits_of(llama), atol=1e-4)
    with quiet():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(llama).eval()
    ids = torch.tensor([model.tokenizer.encode("the soil")])
    theirs.generation_config.eos_token_id = None
    expected = theirs.generate(ids, max_new_tokens=20, do_sample=False, pad_token_id=0)[0, ids.shape[1] :].tolist()
    expected = expected[: expected.index(256)] if 256 in expected else expected
    assert model.generate("the soil", max_new_tokens=20, temperature=0) == model.tokenizer.decode(expected)


def test_ids_that_the_model_has_no_row_for_are_told_once(
    llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By who loads and by who exports; such an id is refused, and where all have a row nothing is said."""
    few = folder_of("llama3", tmp_path / "few", vocab_size=250)
    said = f"{few}: the tokenizer has 257 ids, and by config.json the model 250 rows: text with one of the others"
    model = tilth.load(few, device="cpu")
    (record,) = caplog.records
    assert record.getMessage().startswith(said) and "of one revision, unless" in record.getMessage()
    with pytest.raises(DataError, match="253"):
        model.logits([3, 253])
    caplog.clear()
    export_model(few, tmp_path / "out")
    assert [record.getMessage().startswith(said) for record in caplog.records] == [True]
    caplog.clear()
    tilth.load(llama, device="cpu")
    assert caplog.records == []


def test_a_stop_string_alone_is_no_list_of_characters(llama: Path) -> None:
    model = tilth.load(llama, device="cpu")
    asked = {"prompt": "the soil", "max_new_tokens": 40, "temperature": 0}
    whole = model.generate(**asked)
    place = next(n for n in range(1, len(whole) - 1) if whole[n] in whole[:n] and whole[n : n + 2] not in whole[:n])
    stop = whole[place : place + 2]
    assert model.generate(**asked, stop=stop) == model.generate(**asked, stop=[stop]) == whole[:place]


def test_a_masked_model_gives_scores_and_writes_nothing(tmp_path: Path) -> None:
    model = tilth.load(folder_of("roberta", tmp_path))
    np.testing.assert_allclose(model.logits(IDS), logits_of(tmp_path, masked=True), atol=1e-4)
    with pytest.raises(RecipeError, match="fills in masked tokens"):
        model.generate("the")


@pytest.mark.slow
def test_other_architectures_and_those_asked_for_are_wrapped(llama: Path, tmp_path: Path) -> None:
    config = transformers.GPTNeoXConfig(
        vocab_size=260, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=40,
    )  # fmt: skip
    save(from_config(config), tmp_path)
    train_tokenizer(TokenizerConfig(kind="byte"), [TEXT]).save(tmp_path)
    model = tilth.load(tmp_path)
    assert isinstance(model.model, WrappedModel)
    np.testing.assert_allclose(model.logits(IDS), logits_of(tmp_path), atol=1e-5)
    assert isinstance(model.generate("the", max_new_tokens=5), str)
    assert isinstance(tilth.load(llama, wrapped=True).model, WrappedModel)
    assert not isinstance(tilth.load(llama).model, WrappedModel)
    written = export_model(tmp_path, tmp_path / "out")
    assert written.architecture == "GPTNeoXForCausalLM"
    assert np.array_equal(logits_of(written.folder), logits_of(tmp_path))


def test_bloom_names_no_longest_context_and_is_a_folder_like_any_other(tmp_path: Path) -> None:
    config = transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=260)
    save(from_config(config), tmp_path / "bloom")
    train_tokenizer(TokenizerConfig(kind="byte"), [TEXT]).save(tmp_path / "bloom")
    model = tilth.load(tmp_path / "bloom", device="cpu")
    np.testing.assert_allclose(model.logits(IDS), logits_of(tmp_path / "bloom"), atol=1e-5)
    assert len(model.generate("the soil", max_new_tokens=5)) > 0 and model.config.context_length == 2048
    with pytest.raises(DataError, match="1 to 2048") as caught:
        model.logits(IDS * 100)
    assert '"tilth_context_length": NUMBER' in caught.value.remedy
    export_model(tmp_path / "bloom", tmp_path / "out")
    np.testing.assert_allclose(logits_of(tmp_path / "out"), model.logits(IDS), atol=1e-5)
    config_file = tmp_path / "bloom" / "config.json"
    config_file.write_text(json.dumps({**json.loads(config_file.read_text()), "tilth_context_length": 4096}))
    assert len(tilth.load(tmp_path / "bloom", device="cpu").logits(IDS * 100)) == 3000


def test_out_again_as_a_folder_that_loads_everywhere(llama: Path, tmp_path: Path) -> None:
    written = export_model(llama, tmp_path / "out", dtype="float32")
    assert written.architecture == "LlamaForCausalLM"
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= set(written.files)
    assert np.array_equal(logits_of(written.folder), logits_of(llama))
    assert np.array_equal(tilth.load(written.folder).logits(IDS), tilth.load(llama).logits(IDS))
    assert transformers.AutoTokenizer.from_pretrained(written.folder).decode([104, 105]) == "hi"
    theirs = json.loads((llama / "config.json").read_text())
    ours = json.loads((written.folder / "config.json").read_text())
    assert {key: ours[key] for key in ("eos_token_id", "bos_token_id")} == {"eos_token_id": 3, "bos_token_id": 2}
    assert ours["max_position_embeddings"] == theirs["max_position_embeddings"]
    with pytest.raises(RecipeError, match="exists"):
        export_model(llama, tmp_path / "out")
    weights = tmp_path / "out" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="not what was written"):
        tilth.load(tmp_path / "out")


def test_a_run_is_exported(finished: Path, tmp_path: Path) -> None:
    run = finished / "runs" / "small"
    written = export_model(run, tmp_path / "out")
    assert written.architecture == "LlamaForCausalLM"
    context = tilth.load(run).config.context_length
    ids = IDS[:context]
    np.testing.assert_allclose(tilth.load(run).logits(ids), logits_of(written.folder)[: len(ids)], atol=1e-4)
    assert json.loads((written.folder / "generation_config.json").read_text()) == {"eos_token_id": 256}
    step = export_model(run / "checkpoints" / "step-00000004", tmp_path / "step")
    assert "tokenizer.json" in step.files


# The hub


def test_a_model_of_the_hub_comes_once_and_only_what_is_needed(hub: HubServer, llama: Path) -> None:
    model = tilth.load("org/model")
    np.testing.assert_allclose(model.logits(IDS), logits_of(llama), atol=1e-4)
    asked = {seen.path.rsplit("/", 1)[-1] for seen in hub.bytes_asked()}
    assert "config.json" in asked and not asked & {"README.md", "pytorch_model.bin", "model.onnx"}
    hub.seen.clear()
    again = tilth.load(f"org/model@{COMMIT}")
    assert np.array_equal(again.logits(IDS), model.logits(IDS)) and not hub.bytes_asked()


def test_without_a_network_the_cache_is_used_and_checked(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tilth.load("org/model")
    for how in ("gone", "offline"):
        if how == "gone":
            monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        else:
            monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        assert np.array_equal(tilth.load("org/model").logits(IDS), first.logits(IDS))
        with pytest.raises(DataError) as caught:
            tilth.load("org/other")
        assert "nothing of org/other (revision main) is in the hub's cache" in caught.value.message
    shard = next(first.path.glob("model-*.safetensors")).resolve()
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="its hash is another"):
        tilth.load("org/model")


def test_a_damaged_file_of_the_cache_is_fetched_again(hub: HubServer) -> None:
    first = tilth.load("org/model")
    shard = next(first.path.glob("model-*.safetensors")).resolve()
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    assert np.array_equal(tilth.load("org/model").logits(IDS), first.logits(IDS))


def test_what_the_hub_lacks_is_named(hub: HubServer) -> None:
    with pytest.raises(DataError, match="the model org/nothing"):
        tilth.load("org/nothing")
    with pytest.raises(DataError, match="no such revision"):
        tilth.load("org/model@nowhere")
    whole = dict(hub.files)
    hub.files = {name: data for name, data in whole.items() if not name.endswith(".safetensors")}
    with pytest.raises(CheckpointError, match="no weights in safetensors"):
        tilth.load("org/model")
    hub.files = {name: data for name, data in whole.items() if name != "config.json"}
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        tilth.load("org/model")


def test_a_folder_that_is_there_is_no_hub_id(hub: HubServer, llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path / "org" / "model")
    assert tilth.load("org/model").path == Path("org/model")
    with pytest.raises(RecipeError, match="no run folder or model at org/modle"):
        tilth.load("org/modle")
    assert hub.seen == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('{"base_model_name_or_path": "org/base"}', "the base that it names, 'org/base', is not looked for"),
        ('{"base_model_name_or_path": null}', "it names no base"),
        ("[", "it names no base"),
    ],
)
def test_an_adapter_alone_is_no_model_whatever_base_it_names(tmp_path: Path, said: str, told: str) -> None:
    (tmp_path / "adapter_config.json").write_text(said)
    with pytest.raises(CheckpointError) as caught:
        tilth.load(tmp_path)
    assert caught.value.message == f"{tmp_path} is an adapter that tilth did not train; {told}"
    assert "adapter=FOLDER" in caught.value.remedy


def test_a_vocabulary_that_is_not_the_tokenizers(llama: Path, tmp_path: Path) -> None:
    """Padded rows have scores; ids without a row are told, by all that reads a text."""
    rows = tilth.load(llama).config.vocabulary
    assert tilth.load(llama).logits([rows - 1]).shape == (1, rows)
    with pytest.raises(
        DataError, match=rf"{rows} is no token id of the model in .*, which has rows for 0 to {rows - 1}"
    ):
        tilth.load(llama).logits([rows])
    with pytest.raises(DataError, match="float"):
        tilth.load(llama).logits([0.5])  # type: ignore[list-item]
    small = folder_of("llama3", tmp_path / "small", vocab_size=40)
    (tmp_path / "a.txt").write_text(TEXT)
    with pytest.raises(DataError, match=f"of the model in {small}, which has rows for 0 to 39"):
        tilth.load(small).generate("the soil")
    with pytest.raises(DataError, match=f"of the model in {small}, which has rows for 0 to 39"):
        tilth.evaluate(small, tmp_path / "a.txt")


def test_half_precision_goes_out_as_it_came(llama: Path, tmp_path: Path) -> None:
    half = shutil.copytree(llama, tmp_path / "half", ignore=shutil.ignore_patterns("model*"))
    with quiet():
        transformers.AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16).save_pretrained(half)
    tilth.export(half, tmp_path / "out")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", half))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {tensor.dtype for tensor in ours.values()} == {torch.bfloat16}
    tilth.export(half, tmp_path / "wide", dtype="float32")
    assert load_file(tmp_path / "wide" / "model.safetensors")["model.norm.weight"].dtype == torch.float32
