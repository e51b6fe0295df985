"""The README.md of an exported model, made from the run: how to load it, its data, its settings, its figures.

What is not known is said, and nothing is guessed: what licence the model has is for its owner to say.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tilth.checkpoint.peft_names import FourBits
from tilth.core.errors import TilthError
from tilth.core.files import read_json
from tilth.core.words import plural
from tilth.data.dataset import Dataset
from tilth.jobs.beside import Origin
from tilth.jobs.hub_models import names_hub_model
from tilth.jobs.recipe import Recipe
from tilth.jobs.runs import dataset_of

Use = Literal["text", "chat", "masked", "adapter"]
_LOAD: dict[str, str] = {
    "text": """from transformers import pipeline

write = pipeline("text-generation", model="{name}")
print(write("{prompt}", max_new_tokens=50)[0]["generated_text"])""",
    "chat": """from transformers import pipeline

chat = pipeline("text-generation", model="{name}")
print(chat([{{"role": "user", "content": "Hello"}}], max_new_tokens=100)[0]["generated_text"][-1])""",
    "masked": """from transformers import pipeline

fill = pipeline("fill-mask", model="{name}")
print(fill("The {mask} of the function is returned."))""",
    "adapter": """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, GenerationConfig

model = AutoPeftModelForCausalLM.from_pretrained("{name}")
model.generation_config = GenerationConfig.from_pretrained("{name}")  # where an answer ends; PEFT takes the base's
tokenizer = AutoTokenizer.from_pretrained("{name}")""",
    "adapter of four bits": """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, BitsAndBytesConfig, GenerationConfig

{rounded}
model = AutoPeftModelForCausalLM.from_pretrained("{name}", quantization_config=rounded)
model.generation_config = GenerationConfig.from_pretrained("{name}")  # where an answer ends; PEFT takes the base's
tokenizer = AutoTokenizer.from_pretrained("{name}")""",
    "adapter of a masked model": """from peft import PeftConfig, PeftModel
from transformers import AutoModelForMaskedLM, AutoTokenizer

base = AutoModelForMaskedLM.from_pretrained(PeftConfig.from_pretrained("{name}").base_model_name_or_path)
model = PeftModel.from_pretrained(base, "{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")""",
    "adapter of a masked model of four bits": """from peft import PeftConfig, PeftModel
from transformers import AutoModelForMaskedLM, AutoTokenizer, BitsAndBytesConfig

{rounded}
place = PeftConfig.from_pretrained("{name}").base_model_name_or_path
base = AutoModelForMaskedLM.from_pretrained(place, quantization_config=rounded)
model = PeftModel.from_pretrained(base, "{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")""",
}
# Beside what it was trained beside: the base rounded to four bits, and nothing else of it.
_ROUNDED = """rounded = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant={double},
    # Not rounded while the adapter was trained:
    llm_int8_skip_modules={skipped},
)"""
_TORN = """bitsandbytes rounds a module whole or not at all, and of {first}{more} only a part was rounded
while the adapter was trained. So what this loads is near the model that was trained, and not the same:
`tilth export RUN --to hf --out FOLDER` writes that one, merged."""
_METRICS = {
    "loss": "loss (nats a token)",
    "perplexity": "perplexity",
    "bits_per_byte": "bits per byte",
    "accuracy": "accuracy of the first choice",
    "tokens": "tokens predicted",
}


@dataclass(frozen=True)
class Model:
    """What a card says of the model itself.

    Attributes:
        name: what it is loaded by.
        kind: class of Hugging Face, or "LoRA adapter".
        parameters: numbers that are in the folder.
        use: how it is asked.
        base: the checkpoint that it began with, as others find it; None from scratch.
        step: of the run, whose weights these are; None where nothing tells.
        mask: the text of the mask token, of a masked model.
        looks_both_ways: whether it is a masked model, or an adapter of one.
        rounded: what of an adapter's base is in four bits; None where nothing is.
    """

    name: str
    kind: str
    parameters: int
    use: Use
    base: str | None
    step: int | None
    mask: str = ""
    looks_both_ways: bool = False
    rounded: FourBits | None = None


def model_card(model: Model, origin: Origin | None) -> str:
    """The whole README.md."""
    sections = [_head(model, origin), f"# {model.name.rpartition('/')[2]}", _what(model, origin), _load(model)]
    if origin is not None:
        sections += [_data(origin), _settings(model, origin), _figures(model, origin)]
    return "\n\n".join(sections) + "\n"


def _head(model: Model, origin: Origin | None) -> str:
    """What the hub reads."""
    said: dict[str, Any] = {"library_name": "peft" if model.use == "adapter" else "transformers"}
    said["pipeline_tag"] = "fill-mask" if model.looks_both_ways else "text-generation"
    if model.base is not None and names_hub_model(model.base):
        said["base_model"] = model.base.partition("@")[0]
    if sets := _hub_sets(origin.recipe if origin else None):
        said["datasets"] = sets
    said["tags"] = ["tilth"]
    return f"---\n{yaml.safe_dump(said, sort_keys=False)}---"


def _hub_sets(recipe: Recipe | None) -> list[str]:
    sources = recipe.data.sources if recipe is not None else []
    return sorted({s.hub.dataset for s in sources if s.hub is not None and s.hub.dataset is not None})


def _what(model: Model, origin: Origin | None) -> str:
    told = f"{model.kind}, {model.parameters:,} parameters"
    if origin is None:
        return f"{told}. Written by tilth {_version()}; nothing here tells how it was trained."
    recipe, of = origin.recipe, f" of {_local(model.base)}" if model.base else ""
    how = "trained from scratch"
    if recipe.adapter is not None:
        how = f"trained beside the frozen weights{of}" + ("" if model.use == "adapter" else ", and merged into them")
    elif model.base is not None:
        how = f"all weights{of} trained further"
    return f"{told}: {how}, with tilth {_version()}."


def _local(base: str | None) -> str:
    """A base as a card may name it: of a path no more than its last part."""
    assert base is not None
    return base if names_hub_model(base) else Path(base).name


def _version() -> str:
    return importlib.metadata.version("tilth")


def _load(model: Model) -> str:
    use, rounded, said = str(model.use), "", ""
    if use == "adapter" and model.looks_both_ways:
        use = "adapter of a masked model"
    if model.rounded is not None:
        use += " of four bits"
        rounded = _ROUNDED.format(double=model.rounded.double, skipped=json.dumps(model.rounded.skipped))
        if torn := model.rounded.torn:
            more = f" and {len(torn) - 1:,} more" if len(torn) > 1 else ""
            said = "\n\n" + _TORN.format(first=torn[0], more=more)
    code = _LOAD[use].format(name=model.name, prompt="The", mask=model.mask, rounded=rounded)
    return f"## How to load it\n\n```python\n{code}\n```{said}"


def _data(origin: Origin) -> str:
    try:
        dataset = dataset_of(origin.run.path)
        with dataset.held():
            table, facts = _counted(dataset), dataset.facts
    except (TilthError, OSError):
        return "## Data\n\n" + _table(
            ("source", "licence"), ((s.source_name, s.license or "not stated") for s in origin.recipe.data.sources)
        )
    splits = facts["splits"]
    kept = ", ".join(f"{plural(said['tokens'], 'token')} in {split}" for split, said in splits.items())
    dropped = sum(facts["rules"]["dropped"].values())
    told = f"{_read(facts['read']['documents'])}, {dropped:,} dropped by rule; {kept}."
    return f"## Data\n\n{told} Licences are as the sources state them.\n\n{table}"


def _read(documents: int) -> str:
    return f"{plural(documents, 'document')} {'was' if documents == 1 else 'were'} read"


def _counted(dataset: Dataset) -> str:
    """Documents by source and licence, in each split."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for split in dataset.facts["splits"]:
        for path in dataset.files(f"documents/{split}"):
            for batch in pq.ParquetFile(path).iter_batches(columns=["source", "license"]):
                groups = pa.Table.from_batches([batch]).group_by(["source", "license"]).aggregate([([], "count_all")])
                for row in groups.to_pylist():
                    own = counts.setdefault((row["source"], row["license"] or "not stated"), {})
                    own[split] = own.get(split, 0) + row["count_all"]
    splits = list(dataset.facts["splits"])
    rows = ((*key, *(f"{own.get(split, 0):,}" for split in splits)) for key, own in sorted(counts.items()))
    return _table(("source", "licence", *(f"documents in {split}" for split in splits)), rows)


def _settings(model: Model, origin: Origin) -> str:
    return "## Training\n\n" + _table(("setting", "value"), _said(model, origin))


def _said(model: Model, origin: Origin) -> Iterator[tuple[str, str]]:
    recipe, train = origin.recipe, origin.recipe.train
    yield "objective", train.objective
    if train.masking is not None:
        yield "masking", _plain(train.masking.model_dump())
    if recipe.adapter is not None:
        without = {"modules_to_save"} | (set() if recipe.adapter.quantize else {"double_quantize"})
        yield "adapter", _plain(recipe.adapter.model_dump(exclude=without))
    if recipe.data.chat is not None:
        template = recipe.data.chat.template
        yield "chat template", template if "{" not in template else "of the recipe"
    yield "context", f"{recipe.model.context_length:,} tokens"
    yield "tokens of a step", f"{train.batch_tokens:,}" if isinstance(train.batch_tokens, int) else "all"
    yield "optimizer", _plain(train.optimizer.model_dump())
    yield "schedule", _plain(train.schedule.model_dump())
    yield "seed", str(train.seed)
    result = _result(origin)
    if model.step is not None:
        yield "step of these weights", f"{model.step:,}"
    if result:
        yield (
            "the run ended",
            f"at step {result['step']:,}, after {plural(result['tokens'], 'token')} (`{result['stopped_by']}`)",
        )


def _result(origin: Origin) -> dict[str, Any]:
    try:
        found = read_json(origin.run.path / "result.json")
    except TilthError:
        return {}
    return found if isinstance(found, dict) and {"step", "tokens", "stopped_by"} <= found.keys() else {}


def _figures(model: Model, origin: Origin) -> str:
    found = [event for event in origin.run.events("evaluation") if event.get("step") == model.step]
    if not found:
        return "## Evaluation\n\nThese weights were not measured while they were trained."
    metrics = found[-1]["metrics"]
    rows = ((_METRICS[name], _number(metrics[name])) for name in _METRICS if name in metrics)
    return "## Evaluation\n\nA full pass over the held-out documents.\n\n" + _table(("metric", "value"), rows)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"


def _plain(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value not in (None, False))


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; what would end a cell is spelt out."""
    lines = ["| " + " | ".join(cell.replace("|", "&#124;").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *lines])
