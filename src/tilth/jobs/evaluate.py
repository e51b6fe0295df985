"""The job behind `tilth evaluate`: a model's figures on the validation split of its run, or on a file."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tilth.core.config import parse
from tilth.core.environment import Precision
from tilth.core.errors import CheckpointError, DataError
from tilth.core.files import read_json
from tilth.core.rundir import RunFolder
from tilth.data.dataset import Dataset, open_dataset
from tilth.data.loader import evaluation_batches
from tilth.data.shards import EncodedDocuments, Shard, TokenStream, encoded_document, write_shard
from tilth.data.sources import SourceConfig, list_inputs, read_input
from tilth.data.stages import Outcomes, build_stages, clean
from tilth.distributed.runtime import Runtime
from tilth.evaluate.evaluator import evaluate
from tilth.evaluate.metrics import Metrics
from tilth.jobs.load import LanguageModel, Which, load
from tilth.jobs.recipe import Recipe, make_recipe
from tilth.tokenizer.hf_format import UNKNOWN


def evaluate_run(
    run: Path | str,
    data: Path | str | None = None,
    which: Which = "final",
    precision: Precision = "fp32",
    batch_tokens: int = 16384,
    say: Callable[[str], None] | None = None,
) -> Metrics:
    """A deterministic full pass over the run's validation split, or over the text of `data` (a file, folder or glob).

    Text from `data` is cleaned as the run's recipe says; `say` is told what was changed or left out of it. The
    figures are of fp32 products unless asked otherwise.
    """
    language_model = load(run, which)
    recipe = make_recipe(RunFolder(_run_of(Path(run))).recipe())
    with tempfile.TemporaryDirectory(prefix="tilth-evaluate-") as scratch, contextlib.ExitStack() as held:
        if data is None:
            dataset = _dataset(Path(run))
            held.enter_context(dataset.held())
            stream = _validation(dataset)
        else:
            stream, notes = encode_files(language_model, recipe, str(data), Path(scratch))
            for note in notes if say else ():
                say(note)  # type: ignore[misc]
        context = language_model.config.context_length
        batches = evaluation_batches(
            stream,
            context,
            max(1, batch_tokens // context),
            language_model.tokenizer.end_of_text,
            not recipe.data.cross_document_attention,
        )
        runtime = Runtime(language_model.model.embed_tokens.weight.device)
        return evaluate(language_model.model, batches, stream.text_bytes, runtime, precision)


def _run_of(path: Path) -> Path:
    """The run folder that `path` is, or stands in (RUN/final, RUN/checkpoints/step-…)."""
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "recipe.json").exists():
            return folder
    raise CheckpointError(f"{path} is not in a run folder", "name a folder made by `tilth train`")


def _dataset(path: Path) -> Dataset:
    """The dataset that a run was trained on."""
    run = _run_of(path)
    facts = read_json(run / "data.json")
    dataset = open_dataset(Path(facts["folder"]))
    if dataset.fingerprint != facts["fingerprint"]:
        raise DataError(
            f"{dataset.folder} is not the dataset that {run} was trained on", "evaluate a file: --data FILE"
        )
    return dataset


def _validation(dataset: Dataset) -> TokenStream:
    stream = dataset.stream("validation")
    if not stream.tokens:
        raise DataError(f"the dataset {dataset.folder} has no validation split", "evaluate a file: --data FILE")
    return stream


def encode_files(
    language_model: LanguageModel, recipe: Recipe, pattern: str, scratch: Path
) -> tuple[TokenStream, list[str]]:
    """The text of a file, folder or glob as tokens in a scratch folder, and what was not taken as it was."""
    tokenizer, stages = language_model.tokenizer, build_stages(recipe.data.clean)
    source = parse(SourceConfig, {"path": pattern}, "--data")
    end = np.array([tokenizer.end_of_text], np.uint32)
    listing = list_inputs(source, Path(), scratch)
    ledger = list(listing.skipped)

    def documents() -> Iterator[EncodedDocuments]:
        for outcome in (outcome for item in listing for outcome in read_input(item, source)):
            ledger.extend(outcome.verdicts)
            left = clean(outcome.document, stages) if outcome.document is not None else Outcomes(())
            ledger.extend(left.verdicts)
            for document in left.documents:
                tokens = np.concatenate([tokenizer.encode_array(document.text), end])
                yield encoded_document(document.doc_id, tokens, len(document.text.encode()))

    write_shard(scratch / "shard", documents(), tokenizer.vocab_size, tokenizer.fingerprint)
    stream = TokenStream([Shard(scratch / "shard")])
    if not stream.tokens:
        raise DataError(f"{pattern} holds no text to evaluate", "name a file with text in it")
    counts = Counter((verdict.verdict, f"{verdict.stage}/{verdict.rule}") for verdict in ledger)
    notes = [f"{pattern}: {verdict} by {rule}: {n}" for (verdict, rule), n in sorted(counts.items())]
    unknown = tokenizer.special_tokens.get(UNKNOWN, -1)
    unseen = sum(int((shard.read(0, shard.tokens) == unknown).sum()) for shard in stream.shards)
    return stream, notes + ([f"{pattern}: {unseen} characters that the tokenizer does not know"] if unseen else [])
