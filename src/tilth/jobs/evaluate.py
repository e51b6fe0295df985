"""The job behind `tilth evaluate`: a model's figures on the validation split of its run, or on a file."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tilth.core.config import parse
from tilth.core.environment import Precision
from tilth.core.errors import CheckpointError, DataError, RecipeError, StorageError
from tilth.core.files import MANIFEST, read_manifest, storage_errors
from tilth.core.rundir import RunFolder
from tilth.data.config import DataConfig
from tilth.data.dataset import Dataset
from tilth.data.loader import evaluation_batches
from tilth.data.shards import EncodedDocuments, Shard, TokenStream, encoded_document, write_shard
from tilth.data.sources import SourceConfig, list_inputs, read_input
from tilth.data.sources.inputs import kind_of
from tilth.data.stages import Outcomes, build_stages, clean
from tilth.distributed.runtime import Runtime
from tilth.evaluate.evaluator import evaluate
from tilth.evaluate.metrics import Metrics
from tilth.jobs.load import LanguageModel, load
from tilth.jobs.places import Which
from tilth.jobs.runs import dataset_of, reading_habits, run_of, stored_recipe
from tilth.tokenizer.hf_format import UNKNOWN


def evaluate_run(
    run: Path | str,
    data: Path | str | None = None,
    which: Which = "final",
    precision: Precision = "fp32",
    batch_tokens: int = 16384,
    say: Callable[[str], None] | None = None,
    reading: dict[str, str] | None = None,
) -> Metrics:
    """A deterministic full pass over the run's validation split, or over the text of `data` (a file, folder or glob).

    Text from `data` is cleaned as the run's recipe says; `say` is told what was changed or left out of it. The
    figures are of fp32 products unless asked otherwise.

    Args:
        run: a run folder, or one with a model in it (RUN/final, or a copy of it: `data` is needed then).
        reading: `format` and `field` of `data`; what is not given is the recipe's where that is plain.
    """
    if reading and data is None:
        raise RecipeError(f"{' and '.join(reading)} without data to read", "name the text too: --data FILE")
    language_model = load(run, which)
    place = run_of(Path(run))
    habits, note = _habits(place, language_model.path)
    say = say or _nobody
    with _scratch() as scratch, contextlib.ExitStack() as held:
        if data is None:
            dataset = _dataset(place, Path(run))
            held.enter_context(dataset.held())
            stream = _validation(dataset)
        else:
            source = _source(str(data), habits, reading or {})
            stream, notes = encode_files(language_model, habits["clean"], source, scratch)
            for line in [*([note] if note else []), *notes]:
                say(line)
        context = language_model.config.context_length
        batches = evaluation_batches(
            stream,
            context,
            max(1, batch_tokens // context),
            language_model.tokenizer.end_of_text,
            not habits["cross_document_attention"],
        )
        runtime = Runtime(language_model.model.output_weight.device)
        return evaluate(language_model.model, batches, stream.text_bytes, runtime, precision)


def _nobody(line: str) -> None:
    del line


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A temporary folder; StorageError when the disk has no room for it or for what is put there."""
    remedy = "make room there, or name another folder for temporary files: TMPDIR=FOLDER"
    try:
        folder = tempfile.TemporaryDirectory(prefix="tilth-evaluate-")
    except OSError as error:
        raise StorageError(f"cannot make a temporary folder: {error.strerror}", remedy) from error
    with folder as path:
        try:
            with storage_errors(Path(path)):
                yield Path(path)
        except StorageError as error:
            raise StorageError(error.message, remedy) from error


def _habits(run: Path | None, model: Path) -> tuple[dict[str, Any], str]:
    """How the model's text was read and cleaned (`reading_habits`), and a note where nothing tells."""
    if run is not None:
        return reading_habits(stored_recipe(RunFolder(run)).data), ""
    facts = read_manifest(model) if (model / MANIFEST).exists() else {}
    if isinstance(facts.get("habits"), dict):
        return facts["habits"], ""
    habits = reading_habits(DataConfig(sources=[SourceConfig(path="-")]))
    return habits, f"{model} does not say how its text was cleaned: `clean: {habits['clean']}` is taken"


def _source(pattern: str, habits: Mapping[str, Any], reading: Mapping[str, str]) -> SourceConfig:
    """`--data` as a source. The recipe's format is for files whose suffix says nothing."""
    rows = dict(habits["rows"])
    if "field" in reading:  # it says the same thing as these
        rows = {key: value for key, value in rows.items() if key not in ("template", "map")}
    given = {**rows, **reading}
    if kind_of(pattern) is None:
        given = {"format": habits["format"], **given}
    return parse(SourceConfig, {"path": pattern, **given}, "--data")


def _dataset(run: Path | None, path: Path) -> Dataset:
    """The dataset that a run was trained on."""
    if run is None:
        raise CheckpointError(
            f"{path} is not in a run folder: there is no validation split to measure it on",
            "name a folder made by `tilth train`, or evaluate a file: --data FILE",
        )
    return dataset_of(run)


def _validation(dataset: Dataset) -> TokenStream:
    stream = dataset.stream("validation")
    if not stream.tokens:
        raise DataError(f"the dataset {dataset.folder} has no validation split", "evaluate a file: --data FILE")
    return stream


def encode_files(
    language_model: LanguageModel, clean_by: Any, source: SourceConfig, scratch: Path
) -> tuple[TokenStream, list[str]]:
    """The text of a file, folder or glob as tokens in a scratch folder, and what was not taken as it was."""
    try:
        return _encode_files(language_model, clean_by, source, scratch)
    except DataError as error:
        if re.search(r"`(format|field):", error.remedy):  # written for recipes
            raise type(error)(error.message, f"{error.remedy}; here these are --format and --field") from None
        raise


def _encode_files(
    language_model: LanguageModel, clean_by: Any, source: SourceConfig, scratch: Path
) -> tuple[TokenStream, list[str]]:
    tokenizer, stages = language_model.tokenizer, build_stages(clean_by)
    pattern = source.path
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
