"""What config.json says of an architecture that tilth does not have, asked of transformers' own classes. No weights.

    read_wrapped_config(folder, length) -> WrappedConfig     shapes from the class itself, built without memory
    their_config(config) -> Any                              transformers' own config object, with nothing of the file
                                                             that would run or fetch code
    together(architecture)                                   the error of a class that cannot pack
    auto_class(config), quiet(), library()                   for who builds the class

The file may come from anywhere: what it claims is bounded before a class is built by it.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from tilth.core.config import Config
from tilth.core.errors import CheckpointError, RecipeError, first_line, one_line
from tilth.core.faults import short
from tilth.model.families import WRAPPED_CONTEXT, read_json_config
from tilth.model.wrapped_masks import turns_by_length

_LENGTHS = ("max_position_embeddings", "n_positions", "seq_length", "max_sequence_length", "max_seq_len", "n_ctx")
_NO_LENGTH = 2048
"""Tokens that are read at once where nothing names a longest context, as of BLOOM, whose positions have no end."""
_LONGEST_TOLD = 131_072
"""A tokenizer that knows of no limit states one of 1e30, or of some other number that nobody has memory for."""
_MOST_LAYERS = 2000
_NEVER = ("auto_map", "attn_implementation", "_attn_implementation", "experts_implementation", "use_kernels")
"""Keys that name code to be run or fetched (kernels are code, too); the class is complete without them."""
_FAULTS = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError, IndexError,
           ZeroDivisionError, AssertionError, RecursionError, OverflowError, NotImplementedError)  # fmt: skip
"""What their classes raise at a config that cannot be."""


class WrappedConfig(Config):
    """What the rest of tilth asks of a model's configuration, of one that is not ours."""

    architecture: str
    model_type: str
    vocab_size: int = Field(ge=1)
    context_length: int = Field(ge=1)
    assumed: bool = False
    """Whether nobody named the context: the class has no longest one."""
    longest: int | None = None
    """Tokens that its positions are made for, as far as config.json says."""
    num_hidden_layers: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    mlp_size: int = Field(ge=1)
    is_causal: bool
    takes_documents: bool
    """Whether its forward pass takes positions and masks, as rows of several documents need, and how it turns positions
    does not depend on what else is in a batch. Whether it then keeps them apart, its weights must tell.
    """
    tie_word_embeddings: bool
    parameters: int = Field(ge=1)
    """Numbers that it has, tied ones once."""
    values: dict[str, Any]
    """config.json as it is."""

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""
        return self.vocab_size

    def written(self) -> dict[str, Any]:
        """config.json of this model: as it was, with what a run has changed."""
        kept = {key: value for key, value in self.values.items() if key not in {*_NEVER, "dtype"}}
        return {**kept, "vocab_size": self.vocab_size, "torch_dtype": "float32", WRAPPED_CONTEXT: self.context_length}

    def with_dropout(self, dropout: float, attention: float) -> WrappedConfig:
        """With the dropout of a recipe in place of the checkpoint's own, whatever its class calls it; no layer is ever
        left out whole.
        """
        changes: dict[str, float] = {}
        for key, value in _their_values(self).items():
            if "drop" in key and isinstance(value, (int, float)) and not isinstance(value, bool):
                changes[key] = 0.0 if "layer" in key else attention if "att" in key else dropout
        return self.model_copy(update={"values": {**self.values, **changes}})


def read_wrapped_config(folder: Path, context_length: int | None = None) -> WrappedConfig:
    """The configuration of a folder of any causal or masked architecture that transformers has.

    Args:
        context_length: tokens at once; left out: what its config.json names, or its tokenizer, or 2,048.

    CheckpointError when the architecture is unknown there, needs code of its own, or its config.json cannot be meant.
    """
    values, place = read_json_config(folder), folder / "config.json"
    architecture = _architecture(values, place)
    theirs = _parsed(values, place)
    if _kind(architecture) == "MaskedLM" and theirs.is_encoder_decoder:
        raise CheckpointError(
            f"{place} is of {architecture}, an encoder-decoder: it writes one text by another",
            "use a checkpoint of a decoder or an encoder alone",
        )
    length = _length(theirs, context_length, place)
    config = _described(_empty(architecture, theirs, place), architecture, length or _assumed(folder), values)
    return config.model_copy(update={"assumed": length is None, "longest": _stated(theirs)})


def empty_tensors(config: WrappedConfig) -> dict[str, Tensor]:
    """Every tensor of its class by its name, without memory; those that are parameters as such."""
    hf = _empty(config.architecture, their_config(config, Path("config.json")), Path("config.json"))
    return dict(hf.state_dict(keep_vars=True))


def _empty(architecture: str, theirs: Any, place: Path) -> Any:
    """The class, without memory for its weights."""
    try:
        with quiet(), torch.device("meta"):
            return getattr(library(), f"AutoModelFor{_kind(architecture)}").from_config(theirs, trust_remote_code=False)
    except _FAULTS as error:
        raise CheckpointError(
            f"{place}: transformers cannot make {architecture} of it: {first_line(error)}", "get the file again"
        ) from None


def their_config(config: WrappedConfig, place: Path) -> Any:
    """transformers' own config object."""
    return _parsed(config.written(), place)


def together(architecture: str) -> RecipeError:
    """What to say of a class that does not keep the documents of a row apart."""
    return RecipeError(
        f"{architecture} does not keep the documents of a row apart: a packed row gives it other scores than its "
        "documents alone",
        "train it with objective causal_lm (or masked_lm) over windows (without data.packing, and with "
        "data.cross_document_attention: true), or take a checkpoint of another architecture",
    )


def auto_class(config: WrappedConfig) -> Any:
    """Their class that finds the architecture's own."""
    return getattr(library(), f"AutoModelFor{_kind(config.architecture)}")


def _kind(architecture: str) -> str:
    return "CausalLM" if architecture in _causal_names() else "MaskedLM"


def _names(table: Mapping[str, Any]) -> set[str]:
    return {name for value in table.values() for name in ([value] if isinstance(value, str) else value)}


def _causal_names() -> set[str]:
    return _names(library().models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def _names_of_kind(architecture: str) -> set[str]:
    models = library().models.auto.modeling_auto
    causal = _causal_names()
    return causal if architecture in causal else _names(models.MODEL_FOR_MASKED_LM_MAPPING_NAMES) - causal


def _architecture(values: dict[str, Any], place: Path) -> str:
    masked = _names(library().models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    named = values.get("architectures")
    for name in named if isinstance(named, list) else []:
        if name in _causal_names() or name in masked:
            return str(name)
    code = ", and its code (auto_map) is never run" if "auto_map" in values else ""
    raise CheckpointError(
        f"{place} is of model type {values.get('model_type')!r} and architecture {named!r}, which is no causal or "
        f"masked language model of transformers {library().__version__}{code}",
        "use another checkpoint, or a newer transformers",
    )


def _parsed(values: dict[str, Any], place: Path) -> Any:
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in library().CONFIG_MAPPING:
        raise CheckpointError(
            f"{place} is of model type {model_type!r}, which transformers {library().__version__} lacks",
            "use another checkpoint, or a newer transformers",
        )
    if values.get("quantization_config"):
        raise CheckpointError(
            f"{place}: the weights are quantized (quantization_config), and tilth trains plain ones",
            "name the checkpoint that they were made of; adapter.quantize: nf4 holds it in four bits",
        )
    given = {key: _with_infinities(value) for key, value in values.items() if key not in _NEVER}
    try:
        with quiet():
            theirs = _as_they_read(given)
        if not hasattr(theirs, "num_hidden_layers") and (text := theirs.get_text_config()) is not theirs:
            parts = ", ".join(sorted(part.removesuffix("_config") for part in theirs.sub_configs))
            raise CheckpointError(
                f"{place} is of {model_type}, which is a model of more than text ({parts})",
                f"name a checkpoint of text alone, of model type {text.model_type}",
            )
        layers = theirs.num_hidden_layers
    except _FAULTS as error:
        raise CheckpointError(
            f"{place}: transformers cannot read it: {first_line(error)}", "get the file again"
        ) from None
    except Exception as error:  # their validator has errors of its own
        if type(error).__module__.split(".")[0] != "huggingface_hub":
            raise
        raise CheckpointError(f"{place} has a value of a wrong kind: {one_line(error)}", "get the file again") from None
    if not isinstance(layers, int) or not 0 < layers <= _MOST_LAYERS:
        raise CheckpointError(
            f"{place} claims {layers!r} layers", f"no model has more than {_MOST_LAYERS}: get it again"
        )
    return theirs


def _as_they_read(values: dict[str, Any]) -> Any:
    """What AutoConfig makes of a config.json that says this, given as a file, for that is more than its class alone: a
    `mistral` with `layer_types` is read as a `ministral`, say.
    """
    with contextlib.ExitStack() as held:
        try:
            folder = held.enter_context(tempfile.TemporaryDirectory(prefix="tilth-config-"))
            (Path(folder) / "config.json").write_text(json.dumps(values))
        except OSError as error:
            raise CheckpointError(
                f"no temporary folder for a copy of config.json, which transformers reads: {first_line(error)}",
                "make room there, or name another folder by TMPDIR",
            ) from None
        theirs = library().AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    theirs.name_or_path = ""  # of the folder that is gone
    return theirs


def _with_infinities(value: Any) -> Any:
    """A value of config.json with numbers that JSON lacks, which transformers writes as {"__float__": "Infinity"}."""
    if isinstance(value, list):
        return [_with_infinities(one) for one in value]
    if isinstance(value, dict):
        if value.keys() == {"__float__"} and (number := value["__float__"]) in ("Infinity", "-Infinity", "NaN"):
            return float(number)
        return {key: _with_infinities(one) for key, one in value.items()}
    return value


def _their_values(config: WrappedConfig) -> dict[str, Any]:
    found: dict[str, Any] = _parsed(config.values, Path("config.json")).to_dict()
    return found


def _length(theirs: Any, asked: int | None, place: Path) -> int | None:
    """Tokens at once, as asked or as config.json has them; None where it names none."""
    stated = _stated(theirs)
    length = asked or getattr(theirs, WRAPPED_CONTEXT, None) or stated
    if length is None:
        return None
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise CheckpointError(
            f"{place}: {WRAPPED_CONTEXT} is {short(length)}",
            "it must be a positive whole number: mend it, or take it out",
        )
    if stated is not None and length > stated:
        raise RecipeError(
            f"model.context_length is {length}, and {place.parent} is made for {stated} tokens",
            f"set model.context_length to {stated} at most",
        )
    return length


def _stated(theirs: Any) -> int | None:
    return next((n for name in _LENGTHS if isinstance(n := getattr(theirs, name, None), int) and n > 0), None)


def _assumed(folder: Path) -> int:
    """What the tokenizer says that the model was made for, where it can be meant; else a usual length."""
    try:
        said = json.loads((folder / "tokenizer_config.json").read_bytes()).get("model_max_length")
    except (OSError, ValueError, RecursionError, AttributeError):  # whoever loads the tokenizer says so
        return _NO_LENGTH
    return said if isinstance(said, int) and 1 < said <= _LONGEST_TOLD else _NO_LENGTH


def _described(hf: Any, architecture: str, length: int, values: dict[str, Any]) -> WrappedConfig:
    output: nn.Module | None = hf.get_output_embeddings()
    if not isinstance(output, nn.Linear):
        raise CheckpointError(
            f"{architecture} has no output matrix that could be told from the rest of it", "use another architecture"
        )
    vocabulary, hidden = output.weight.shape
    made = type(hf).__name__  # of a `mistral` that is read as a `ministral`
    if made != architecture and made in _names_of_kind(architecture):
        architecture = made
    return WrappedConfig(
        architecture=architecture,
        model_type=hf.config.model_type,
        vocab_size=vocabulary,
        context_length=length,
        num_hidden_layers=hf.config.num_hidden_layers,
        hidden_size=hidden,
        mlp_size=getattr(hf.config, "intermediate_size", None) or 4 * hidden,
        is_causal=architecture in _causal_names(),
        takes_documents=_takes_documents(hf),
        tie_word_embeddings=output.weight is hf.get_input_embeddings().weight,
        parameters=sum(parameter.numel() for parameter in hf.parameters()),
        values=values,
    )


def _takes_documents(hf: Any) -> bool:
    taken = set(inspect.signature(hf.forward).parameters)
    return {"position_ids", "attention_mask"} <= taken and not turns_by_length(hf.config)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's progress bars and advice: tilth has displays and errors of its own."""
    logging = library().utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def library() -> Any:
    """transformers; RecipeError with the remedy where it is not installed."""
    try:
        import transformers
    except ImportError:
        raise RecipeError(
            "an architecture that tilth does not have itself needs the package transformers",
            "pip install 'tilth[transformers]'",
        ) from None
    return transformers
