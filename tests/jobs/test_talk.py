"""A model keeps the template it was trained with: messages are answered, here and in transformers; `tilth chat`."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import transformers

import tilth
from tests.jobs.chatting import CONTEXT, WORDS, answer, base_folder, in_chatml, question, trained
from tests.jobs.conftest import Cli
from tests.jobs.helpers import command, environment
from tests.model.families import quiet
from tilth.core.errors import DataError, IntegrityError, RecipeError
from tilth.core.files import write_json
from tilth.generate.config import SamplingConfig
from tilth.generate.text import TextOptions
from tilth.jobs.export import export_model
from tilth.jobs.load import LanguageModel
from tilth.jobs.talk import Talk
from tilth.tokenizer.chat_files import ChatFormat, write_chat
from tilth.tokenizer.templates import built_in

pytestmark = pytest.mark.slow

GREEDY = SamplingConfig(temperature=0.0)


def asked(word: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question(word)}]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: base_folder(tmp_path_factory.mktemp(kind), kind == "foreign") for kind in ("own", "foreign")}


class Runs:
    """Models that learned to answer, with a tokenizer of tilth's or of another program; made when asked for."""

    def __init__(self, bases: dict[str, Path], folder: Path) -> None:
        self.bases, self.folder = bases, folder

    def __getitem__(self, kind: str) -> Path:
        if not (self.folder / kind).exists():
            sample = {"prompts": ["", question("rain")], "temperature": 0.0}
            trained(self.folder, self.bases[kind], kind, sample=sample, **in_chatml())
        return self.folder / kind


@pytest.fixture(scope="module")
def runs(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(bases, tmp_path_factory.mktemp("talkers"))


KINDS = ["own", pytest.param("foreign", marks=pytest.mark.slow)]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_transformers_after_an_export(kind: str, runs: Runs, tmp_path: Path) -> None:
    """The template, and the token that ends an answer, go along: transformers needs nothing else."""
    out = export_model(runs[kind], tmp_path / "out").folder
    with quiet():
        theirs = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    models = [tilth.load(place) for place in (runs[kind], runs[kind] / "final", out)]
    models.append(tilth.load(runs[kind], "latest"))
    for word in WORDS[:3]:
        ids = tokenizer.apply_chat_template(
            asked(word), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        written = theirs.generate(ids, max_new_tokens=40, do_sample=False, pad_token_id=0)[0, ids.shape[1] :].tolist()
        assert written[-1] == tokenizer.convert_tokens_to_ids("<|im_end|>"), "it ended by itself"
        expected = tokenizer.decode(written[:-1])
        assert expected.startswith("The ") and expected.endswith("waits.")
        for model in models:
            assert model.generate(asked(word), max_new_tokens=40, temperature=0) == expected
    assert models[0].chat == models[2].chat and models[0].stop_ids == models[2].stop_ids


def test_samples_of_the_run_are_answers(runs: Runs) -> None:
    lines = [json.loads(line) for line in (runs["own"] / "events.jsonl").read_text().splitlines()]
    samples = [line for line in lines if line.get("kind", line.get("event")) == "sample"]
    assert [sample["prompt"] for sample in samples] == [question("rain")], "an empty message is none"
    assert samples[0]["text"] == tilth.load(runs["own"]).generate(asked("rain"), temperature=0, max_new_tokens=100)


def test_the_template_goes_on_to_what_starts_from_the_run(runs: Runs, tmp_path: Path) -> None:
    """`template: checkpoint` finds it; and a run on plain text keeps it."""
    train = {"train": {"steps": 1}}
    again = trained(tmp_path, runs["own"], "again", data={"chat": {"template": "checkpoint"}}, **train)
    (tmp_path / "plain.txt").write_text("\n\n".join(answer(word) * 9 for word in WORDS))
    plain = {"sources": [{"path": str(tmp_path / "plain.txt")}]}
    further = trained(tmp_path, runs["own"], "further", data=plain, train={"steps": 1, "objective": "causal_lm"})
    first = tilth.load(runs["own"])
    for result in (again, further):
        model = tilth.load(result["run"])
        assert model.chat is not None and first.chat is not None
        assert model.chat.template.source == first.chat.template.source and model.stop_ids == first.stop_ids
        assert model.generate(asked("rain"), temperature=0, max_new_tokens=30)


def test_without_a_template_there_is_a_remedy_and_text_is_still_answered(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    """A prompt is read after the tokenizer's opening, as it was in training."""
    result = trained(tmp_path, bases["foreign"], train={"steps": 40})
    model = tilth.load(result["run"])
    with pytest.raises(RecipeError, match="has no chat template") as caught:
        model.generate(asked("rain"))
    assert "data.chat" in caught.value.remedy
    text = model.generate(question("rain"), temperature=0, max_new_tokens=40)
    ids = [*model.tokenizer.opening, *model.tokenizer.encode(question("rain"))]
    assert model.tokenizer.opening and text.startswith("The ") and text.endswith("waits.")
    assert model.tokenizer.decode([int(model.logits(ids)[-1].argmax())]) == text[: text.index(" ")]


def test_messages_are_read_as_those_of_training_are(runs: Runs) -> None:
    model, text = tilth.load(runs["own"]), question("rain")
    wanted = model.generate(asked("rain"), temperature=0, max_new_tokens=30)
    parts = [{"type": "text", "text": text[:5]}, {"type": "text", "text": text[5:]}]
    for message in (
        {"role": "human", "content": text},
        {"from": "human", "value": text},
        {"role": "user", "content": parts},
    ):
        assert model.generate([message], temperature=0, max_new_tokens=30) == wanted
    other = model.generate([{"role": "ipython", "content": text}], temperature=0, max_new_tokens=30)
    assert isinstance(other, str), "a role that only templates know is theirs"


def test_what_the_template_or_the_context_does_not_take_is_told(runs: Runs, tmp_path: Path) -> None:
    model = tilth.load(runs["own"])
    for message, said, remedy in (
        ({"role": "nobody", "content": "x"}, "message 1 is by 'nobody'", "user (or human)"),
        ({"role": "user", "content": None}, "holds NoneType", "its content a text"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, "holds 'image_url'", "both texts"),
        ("x", "message 1 is str", "both texts"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            model.generate([message])  # type: ignore[list-item]
        assert remedy in caught.value.remedy
    for prompt in (None, {"role": "user", "content": "x"}):
        with pytest.raises(DataError, match="the prompt is"):
            model.generate(prompt)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="reads and writes 192 in all"):
        model.generate([{"role": "user", "content": "word " * 200}])
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (runs["own"] / "final").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "manifest.json").unlink()
    write_json(copy / "generation_config.json", {"eos_token_id": "end"})
    with pytest.raises(IntegrityError, match="eos_token_id is 'end'"):
        tilth.load(copy)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_chosen_when_the_model_is_loaded(kind: str, bases: dict[str, Path], tmp_path: Path) -> None:
    """Beside the base it answers as its run does; without it the run's model is the base."""
    run = trained(tmp_path, bases[kind], adapter={"rank": 8}, train={"steps": 5})["run"]
    ids = [5, 6, 7, 8]
    base, own = tilth.load(bases[kind]), tilth.load(run)
    assert (tilth.load(run, adapter="none").logits(ids) == base.logits(ids)).all()
    assert (own.logits(ids) != base.logits(ids)).any()
    for adapter in (run, Path(run) / "final"):
        assert (tilth.load(bases[kind], adapter=adapter).logits(ids) == own.logits(ids)).all()
    other = trained(tmp_path, bases[kind], "other", adapter={"rank": 4}, train={"steps": 3})["run"]
    assert (tilth.load(run, adapter=other).logits(ids) == tilth.load(other).logits(ids)).all(), "another in its place"
    with pytest.raises(RecipeError, match="no adapter that could be left out"):
        tilth.load(bases[kind], adapter="none")
    with pytest.raises(RecipeError, match="holds no adapter"):
        tilth.load(bases[kind], adapter=tmp_path)


# Talking


def talk_with(run: Path, most: int = 20, system: str | None = None) -> Talk:
    return Talk(tilth.load(run), TextOptions(max_new_tokens=most, sampling=GREEDY), system)


def said(talk: Talk, text: str) -> str:
    return "".join(talk.answer(talk.ask(text)))


def test_a_conversation_is_what_generate_makes_of_its_messages(runs: Runs) -> None:
    model = tilth.load(runs["own"])
    with talk_with(runs["own"], system="Be brief.") as talk:
        for word in WORDS[:2]:
            messages = [*talk.messages, {"role": "user", "content": question(word)}]
            assert said(talk, question(word)) == model.generate(messages, temperature=0, max_new_tokens=20)
        assert talk.memory.reused > 30, "the turn before was not read again"
        assert [message["role"] for message in talk.messages] == ["system", *["user", "assistant"] * 2]


def test_the_oldest_turns_go_when_the_context_is_full(runs: Runs) -> None:
    model = tilth.load(runs["own"])
    with talk_with(runs["own"], system="Hi.") as talk:
        forgotten = []
        for word in WORDS:
            ask = talk.ask(question(word))
            forgotten.append(ask.forgotten)
            assert len(ask.ids) + 20 <= CONTEXT and ask.most == 20
            kept = [talk.messages[0], *talk.messages[1 + 2 * talk.first :], {"role": "user", "content": question(word)}]
            assert "".join(talk.answer(ask)) == model.generate(kept, temperature=0, max_new_tokens=20)
        assert sum(forgotten) == talk.first > 1 and forgotten[0] == 0
        assert len(talk.turns) == len(WORDS), "what was said is kept to be saved"
        with pytest.raises(DataError, match="this message has"):
            talk.ask("word " * 200)
        with model.chat_encoder() as encoder:
            alone = len(encoder.prompt([talk.messages[0], {"role": "user", "content": ""}]))
        before = talk.first
        long = talk.ask("~" * (CONTEXT - alone - 5))
        assert long.most == 5 and talk.first == len(talk.turns) > before
        list(talk.answer(long))
        assert talk.memory.ended or talk.cut_short(long) == "the context is full"


def test_a_stopped_answer_is_kept_as_far_as_it_came(runs: Runs) -> None:
    with talk_with(runs["own"]) as talk:
        pieces: list[str] = []
        for piece in talk.answer(talk.ask(question("sun")), lambda: len(pieces) > 2):
            pieces.append(piece)
        whole = talk.language_model.generate(asked("sun"), temperature=0)
        assert talk.turns == [(question("sun"), "".join(pieces).strip())] and whole.startswith(talk.turns[0][1])
        list(talk.answer(talk.ask(question("sun")), lambda: True))
        assert len(talk.turns) == 1, "a turn without an answer is none"


def test_what_is_saved_can_be_trained_on(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with talk_with(runs["own"], system="Be brief.") as talk:
        with pytest.raises(RecipeError, match="nothing was said"):
            talk.save(Path("talk.jsonl"))
        said(talk, question("rain"))
        talk.begin(None)
        for word in ("sun", "wind"):
            said(talk, question(word))
        names = ("talk.jsonl", "talk.jsonl", "copy.jsonl", "talk.jsonl")
        assert [talk.save(Path(name)) for name in names] == [2] * 4, "what it wrote itself it may write again"
        Path("other.jsonl").write_text("mine")
        with pytest.raises(RecipeError, match="exists"):
            talk.save(Path("other.jsonl"))
    told = [json.loads(line)["messages"] for line in Path("talk.jsonl").read_text().splitlines()]
    assert [[message["role"] for message in messages] for messages in told] == [
        ["system", "user", "assistant"],
        ["user", "assistant"] * 2,
    ]
    data = {
        "sources": [{"path": "talk.jsonl", "map": {"messages": "messages"}}],
        "split": {"validation": 0.0},
        "chat": {"template": "checkpoint"},
    }
    result = trained(tmp_path, runs["own"], "further", data=data, train={"steps": 1})
    dataset = tilth.prepare(tilth.load_recipe(_written(tmp_path, result)), tmp_path / "work", workers=1)
    assert dataset.stream("train").documents == 2


def _written(folder: Path, result: dict[str, object]) -> Path:
    recipe = folder / "again.yaml"
    recipe.write_text((Path(str(result["run"])) / "recipe.json").read_text())
    return recipe


# The command


def chat(cwd: Path, lines: Sequence[str], *words: str) -> subprocess.CompletedProcess[str]:
    text = "".join(line + "\n" for line in lines)
    return subprocess.run(
        command("chat", *words), cwd=cwd, env=environment(), input=text, capture_output=True, text=True, timeout=120
    )


def test_the_command_answers_line_by_line(runs: Runs, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real process; what comes after it needs none."""
    place = runs["own"].parent
    lines = [
        question("rain"),
        "",
        "/reset",
        question("sun"),
        "/system Be brief.",
        "/nothing",
        "/save",
        "/save a.jsonl",
        "/help",
    ]
    done = chat(place, [*lines, "word " * 200, "/exit", "never read"], "own", "--temperature", "0")
    assert done.returncode == 0, done.stderr
    model = tilth.load(runs["own"])
    assert done.stdout.splitlines() == [model.generate(asked(word), temperature=0) for word in ("rain", "sun")]
    assert "\nname a file: /save FILE\n" in done.stderr and "/save is no command" not in done.stderr
    monkeypatch.setattr(sys, "stdin", io.StringIO("/quit\nnever read\n"))
    quit_too = cli("chat", runs["own"])
    assert (quit_too.code, quit_too.out) == (0, "")
    for part in ("(a new conversation)", "/nothing is no command", "2 conversations in a.jsonl", "this message has"):
        assert part in done.stderr, part
    assert "Traceback" not in done.stderr and len((place / "a.jsonl").read_text().splitlines()) == 2


def test_the_end_of_the_input_ends_it_and_faults_come_first(
    runs: Runs, bases: dict[str, Path], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("//what\n"))
    done = cli("chat", runs["own"], "--system", "Be brief.", "--max-new-tokens", "3")
    assert done.code == 0 and len(done.out.splitlines()) == 1 and "(cut off: after 3 tokens)" in done.err
    cli("chat", bases["own"]).expect_fault(2, "has no chat template", f"generate {bases['own']} --prompt", "data.chat")
    cli("chat", "nowhere").expect_fault(2, "no run folder or model at nowhere")
    one = cli("generate", runs["own"], "--chat", "--prompt", question("rain"), "--temperature", "0")
    assert one.out == tilth.load(runs["own"]).generate(asked("rain"), temperature=0) + "\n"
    two = cli("generate", runs["own"], "--system", "Hi", "--prompt", question("rain"), "--samples", "2")
    assert two.code == 0 and two.out.startswith("--- 1 of 2\n")
    cli("generate", runs["own"], "--chat").expect_fault(2, "no message to answer")


@pytest.mark.slow
def test_ctrl_c_stops_an_answer_and_not_the_chat(tmp_path: Path) -> None:
    """A real process, and a model that goes on for long."""
    folder = base_folder(tmp_path / "model", n_positions=8192, n_embd=256, n_layer=6)
    write_chat(folder, ChatFormat(built_in("chatml")), [])
    words = command("chat", "model", "--max-new-tokens", "8000", "--temperature", "0")
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin and process.stdout and process.stderr
    try:
        for _ in range(2):
            process.stdin.write(b"Who?\n")
            process.stdin.flush()
            assert process.stdout.read(1)
            process.send_signal(signal.SIGINT)
            assert process.stderr.readline() == b"(stopped)\n"
            assert process.stdout.readline().endswith(b"\n"), "what came of the answer is a line"
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def test_a_masked_model_does_not_talk() -> None:
    class Masked:
        is_causal = False

    model = LanguageModel(torch.nn.Identity(), None, Masked(), Path("m"))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="writes no text") as caught:
        Talk(model, TextOptions())
    assert "`tilth export m --to hf --out FOLDER`" in caught.value.remedy and "fill-mask" in caught.value.remedy
