"""A model from wherever it is: `load(PATH_OR_ID)` gives weights, tokenizer and configuration as one thing to use.

A run, a checkpoint in it, its final/ folder, a Hugging Face folder (what `tilth export` writes too), or a model of the
hub. Of the last two, families that tilth has itself become its own model (`checkpoint/hf_weights.py`); with `wrapped`
any architecture of transformers keeps its own class (`model/wrapped.py`).
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from tilth.checkpoint.hf_weights import load_checkpoint, load_later
from tilth.checkpoint.peft_config import CONFIG as ADAPTER_CONFIG
from tilth.checkpoint.peft_config import Base as PeftBase
from tilth.checkpoint.peft_load import load_adapter
from tilth.checkpoint.store import CheckpointStore
from tilth.checkpoint.tensors import load_model, read_weights
from tilth.checkpoint.trainable import base_fingerprint, check_base, load_trainable
from tilth.core.arguments import check_choice
from tilth.core.config import parse
from tilth.core.environment import DeviceName
from tilth.core.errors import CheckpointError, DataError, RecipeError
from tilth.core.faults import short
from tilth.core.words import plural
from tilth.data.sources.messages import OF_TRAINING, is_plain, read_message, remedy_of
from tilth.data.sources.notes import Note
from tilth.distributed.runtime import asked_device
from tilth.generate.config import SamplingConfig
from tilth.generate.text import TextOptions, check_ids, generate_texts
from tilth.jobs.base import open_base
from tilth.jobs.places import BASE_FILE, Place, Which, locate, read_base, read_config
from tilth.jobs.start import base_model, check_fits, wrapped_model
from tilth.model.adapter_config import AdapterConfig
from tilth.model.adapters import adapter_names, apply_adapter, choose, quantize_layers, set_aside
from tilth.model.families import WRAPPED_CONTEXT, read_hf_config
from tilth.model.resize import resize_embeddings
from tilth.model.transformer import build
from tilth.model.wrapped import AnyConfig, AnyModel, WrappedModel
from tilth.model.wrapped_config import WrappedConfig, read_wrapped_config
from tilth.tokenizer import Tokenizer, load_tokenizer
from tilth.tokenizer.chat import ChatEncoder
from tilth.tokenizer.chat_files import ChatFormat, read_chat, read_stop_ids
from tilth.tokenizer.conversation import ROLES

WeightType = Literal["float32", "bfloat16"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LanguageModel:
    """A model that can be asked.

    Attributes:
        path: the folder that its weights came from.
        chat: the template that it is asked by in conversations; None where it has none.
        stop_ids: ids at which what it writes ends, beside end-of-text.
    """

    model: AnyModel
    tokenizer: Tokenizer
    config: AnyConfig
    path: Path
    chat: ChatFormat | None = None
    stop_ids: frozenset[int] = frozenset()

    @property
    def called(self) -> str:
        """What errors call it."""
        return f"the model in {self.path}"

    @torch.no_grad()
    def logits(self, ids: list[int]) -> npt.NDArray[np.float32]:
        """Scores of the next token after each of `ids`, float32 [T, V]; DataError when there are more than the
        context holds, or one that the model has no row for.
        """
        if not 0 < len(ids) <= self.config.context_length:
            raise DataError(
                f"{len(ids)} ids; the model takes 1 to {self.config.context_length}",
                f"give a part of them{self._longer()}",
            )
        check_ids(self.model, ids, self.called)
        device = self.model.output_weight.device
        hidden = self.model(torch.tensor([list(ids)], device=device))
        result: npt.NDArray[np.float32] = self.model.logits(hidden)[0].float().cpu().numpy()
        return result

    def generate(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        max_new_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 1,
        stop: str | Sequence[str] = (),
    ) -> str:
        """What the model writes after `prompt` (the prompt not in it). The same arguments give the same text.

        Args:
            prompt: a text; or messages, [{role, content}], which the model's chat template renders; they are read as
                those of training data are.
            stop: a text before which it stops, or several.

        RecipeError for a masked language model, which writes none, for messages where there is no chat template, and
        for fewer than one token to write;
        DataError when the template does not take them, or they fill the context.
        """
        values = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        ends = (stop,) if isinstance(stop, str) else tuple(stop)
        options = TextOptions(max_new_tokens, 1, ends, parse(SamplingConfig, values, "generate"))
        asked, options = self.asked(prompt, options)
        return generate_texts(self.model, self.tokenizer, asked, options)[0]

    def asked(
        self, prompt: str | Sequence[Mapping[str, Any]], options: TextOptions
    ) -> tuple[str | list[int], TextOptions]:
        """A prompt as the model reads it, messages as ids, and the options with the ids that end what it writes; errors
        as of `generate`.
        """
        self.check_writes()
        options = replace(options, stop_ids=options.stop_ids | self.stop_ids, model=self.called)
        if isinstance(prompt, str):
            return prompt, options
        with self.chat_encoder() as encoder:
            ids, ends = encoder.prompt(_conversation(prompt)), encoder.stop_ids()
        window = self.config.context_length
        if len(ids) >= window:
            raise DataError(
                f"the conversation has {len(ids)} tokens; the model reads and writes {window} in all",
                f"leave out its oldest messages{self._longer()}",
            )
        return ids, replace(options, stop_ids=options.stop_ids | ends)

    def _longer(self) -> str:
        """What to say beside where the context ends at a number that only tilth named."""
        if not getattr(self.config, "assumed", False):
            return ""
        return f'; or name a longer context in {self.path / "config.json"}, which has none: "{WRAPPED_CONTEXT}": NUMBER'

    def chat_encoder(self) -> ChatEncoder:
        """Renders conversations, to be closed; RecipeError where the model has no chat template."""
        if self.chat is None:
            raise RecipeError(
                f"the model in {self.path} has no chat template: it does not know messages from text",
                f'give it a text to go on with: `tilth generate {self.path} --prompt "…"` (in Python a str as the '
                "prompt); or train with data.chat, which keeps its template beside the model",
            )
        return self.chat.encoder(self.tokenizer)

    def check_writes(self) -> None:
        """RecipeError for a masked language model."""
        if not self.config.is_causal:
            raise RecipeError(
                f"the model in {self.path} fills in masked tokens, and writes no text",
                f"`tilth export {shlex.quote(str(self.path))} --to hf --out FOLDER` writes what transformers' "
                "pipeline('fill-mask', model='FOLDER') loads; in Python ask this model for logits",
            )


_READ = frozenset({"role", "from", "sender", "content", "value", "text", "function_call"})
"""Keys of messages that `read_message` reads, and writes by other names."""


def _conversation(prompt: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as training reads them (roles by other names, OpenAI's lists of parts), with roles and keys that a
    template may know beside these (`ipython`). DataError for what is none.
    """
    if isinstance(prompt, Mapping) or not isinstance(prompt, Iterable):
        raise DataError(f"the prompt is {short(prompt)}", "give a text, or a list of messages: [{role, content}]")
    messages = []
    for number, given in enumerate(prompt, 1):
        item = dict(given) if isinstance(given, Mapping) else given
        if isinstance(item, dict):
            item = {key: value for key, value in item.items() if key not in OF_TRAINING}
        found = read_message(item, f"message {number}")
        if isinstance(found, Note) and found.rule == "unknown_role" and (role := item.get("role")) in ROLES:
            found = read_message({**item, "role": "tool"}, f"message {number}")
            found = found if isinstance(found, Note) else {**found, "role": role}
        if isinstance(found, Note):
            said = found.detail.partition("; the conversation")[0]
            raise DataError(
                f"{said}: it cannot be asked", remedy_of(found) or "a message is {role, content}, both texts"
            )
        others = {key: value for key, value in item.items() if key not in _READ and is_plain(value)}
        messages.append({**others, **found})
    return messages


def load(
    path: Path | str,
    which: Which = "final",
    device: DeviceName | str | torch.device = "auto",
    wrapped: bool | None = None,
    adapter: Path | str | None = None,
    dtype: WeightType = "float32",
) -> LanguageModel:
    """The model of a run folder, of a folder with weights, config.json and a tokenizer, or of the hub, verified.

    Args:
        path: a folder, or ORG/NAME or ORG/NAME@REVISION of the hub, where no folder of that name is.
        which: of a run folder: `final` (or the latest checkpoint, while the run has not ended), `latest`, `best`, or
            a step.
        device: `auto` (the best that there is), `cpu`, `cuda`, `mps`, `cuda:1` of several, or as torch has it.
        wrapped: of a Hugging Face folder: use transformers' own class; left out: only where tilth has none itself.
        adapter: a folder with an adapter (PEFT's, or a run's) to put beside it; `none`: a run's model without the
            adapter that it trained.
        dtype: what its weights are held and multiplied in. `bfloat16` takes half the memory, and on a CPU of two cores
            writes about twice as fast where g++ is there; a checkpoint that is stored so loses nothing by it.
    """
    check_choice("which", which, Which)
    check_choice("dtype", dtype, WeightType)
    if not isinstance(path, str | Path):
        raise RecipeError(f"path is {short(path)}, which names no model", "name a folder, or ORG/NAME of the hub")
    where = asked_device(device)
    place = locate(path, which, _checkpoint)
    place.verify()
    if wrapped and (place.adapter is not None or not place.foreign):
        raise RecipeError(
            f"wrapped is for a Hugging Face folder, and {path} is "
            + ("an adapter, beside the class that it was trained beside" if place.adapter else "in tilth's own format"),
            "leave it out",
        )
    wanted: torch.dtype = getattr(torch, dtype)
    if adapter is not None and str(adapter) != "none":
        found = held_in(wanted, _with_adapter(place, Path(adapter), where, wrapped, wanted))
        _tell_of_rowless(found)
        return found
    found = held_in(wanted, _load(place, where, wrapped, wanted))
    _tell_of_rowless(found)
    if adapter is not None:
        if not adapter_names(found.model):
            raise RecipeError(f"{path} has no adapter that could be left out", "leave `adapter: none` out")
        choose(found.model, None)
    return found


def _tell_of_rowless(found: LanguageModel) -> None:
    """A warning where the tokenizer has ids that the model has no row for. No error: published models whose text never
    has these ids are so, and one that is trained further gets rows for them.
    """
    ids, rows = found.tokenizer.vocab_size, found.config.vocabulary
    if ids > rows:
        _log.warning(
            "%s: the tokenizer has %s, and by config.json the model %s: text with one of the others is refused; name a "
            "checkpoint whose tokenizer and weights are of one revision, unless these ids are never used",
            found.path,
            plural(ids, "id"),
            plural(rows, "row"),
        )


def held_in(dtype: torch.dtype, found: LanguageModel) -> LanguageModel:
    """The model with its weights in this type, one after another changed where they are not."""
    if isinstance(found.model, WrappedModel):
        _check_theirs(dtype, found.path)
    for parameter in (*found.model.parameters(), *set_aside(found.model)):
        if parameter.is_floating_point() and parameter.dtype != dtype:
            parameter.data = parameter.data.to(dtype)
    return found


def _check_theirs(dtype: torch.dtype, path: Path) -> None:
    """RecipeError where a model of transformers' own class shall be held in another type than fp32; to be asked before
    it is loaded, which may take minutes.
    """
    if dtype != torch.float32:
        raise RecipeError(
            f"the model in {path} runs through transformers' own class, which tilth holds in float32 alone",
            f"leave dtype out ({str(dtype).removeprefix('torch.')})",
        )


def _is_theirs(place: Place, wrapped: bool | None) -> bool:
    """Whether a model that is no adapter comes as transformers' own class."""
    return place.foreign and (place.wrapped if wrapped is None else wrapped)


def _load(
    place: Place,
    device: torch.device,
    wrapped: bool | None,
    dtype: torch.dtype = torch.float32,
    *,
    later: bool = False,
) -> LanguageModel:
    """A model, of an adapter's run its base with it. `later`: as of `base_model`."""
    if place.adapter is not None:
        return _beside_base(place, device, dtype)
    if place.foreign:
        return _load_foreign(place, device, wrapped, dtype, later)
    config = read_config(place.about / "config.json")
    check_fits(config, place.weights / "model.safetensors")
    if later:
        return _made(load_later(place.weights, config, device, foreign=False), place)
    model = build(config, None, device, dtype)
    load_model(model, read_weights(place.weights / "model.safetensors"), place.weights)
    return _made(model, place)


def _made(model: AnyModel, place: Place) -> LanguageModel:
    folder = place.tokenizer
    return LanguageModel(
        model.eval(), load_tokenizer(folder), model.config, place.weights, read_chat(folder), read_stop_ids(folder)
    )


def _load_foreign(
    place: Place, device: torch.device, wrapped: bool | None, dtype: torch.dtype, later: bool
) -> LanguageModel:
    if _is_theirs(place, wrapped):
        _check_theirs(dtype, place.weights)
        return _made(wrapped_model(place, read_wrapped_config(place.about), device), place)
    if later:
        return _made(load_later(place.weights, read_hf_config(place.weights).config, device, foreign=True), place)
    return _made(load_checkpoint(place.weights, device, dtype=dtype).model, place)


def _beside_base(place: Place, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """The base that an adapter was trained beside, with the adapter put beside it; in fp32, for it is known by that.
    `dtype`: what it will be held in.
    """
    said = place.base
    base = open_base(said["from"], said["context_length"], tuple(said["special_tokens"]), said.get("wrapped"))
    if isinstance(base.config, WrappedConfig):
        _check_theirs(dtype, place.weights)
    config = parse(AdapterConfig, said["adapter"], "adapter")
    model = base_model(base, device, said["seed"], later=config.quantize is not None)
    check_base(said["fingerprint"], base_fingerprint(model), place.weights)
    if (place.weights / ADAPTER_CONFIG).exists():
        load_adapter(model, place.weights)
        quantize_layers(model, config)  # what it learned makes up for the rounding
    else:  # a checkpoint of the run
        apply_adapter(model, config, said["seed"])
        load_trainable(model, read_weights(place.weights / "model.safetensors"), place.weights)
    return _made(model, place)


def _with_adapter(
    place: Place, folder: Path, device: torch.device, wrapped: bool | None, dtype: torch.dtype
) -> LanguageModel:
    """The model, of a run its base, with another adapter beside it, and that one's tokenizer and template where it
    brings them. What the adapter's recipe made of the base is made again: rows for new tokens, four bits. `dtype`: as
    of `_beside_base`.
    """
    folder = folder / "final" if (folder / "recipe.json").exists() else folder
    if not (folder / ADAPTER_CONFIG).exists():
        raise RecipeError(f"{folder} holds no adapter: no {ADAPTER_CONFIG} there", "name the folder of an adapter")
    said = read_base(folder) if (folder / BASE_FILE).exists() else None
    if said is not None:
        _check_class(place, folder, said.get("wrapped"), wrapped)
        wrapped = said.get("wrapped")
    config = parse(AdapterConfig, said["adapter"], "adapter") if said is not None else None
    later = config is not None and config.quantize is not None
    if place.adapter is not None:
        found = _base_of(place, device, later, dtype)
    else:
        if _is_theirs(place, wrapped):
            _check_theirs(dtype, place.weights)
        found = _load(place, device, wrapped, later=later)
    if (folder / "tokenizer_config.json").exists():
        tokenizer, stop_ids = load_tokenizer(folder), found.stop_ids | read_stop_ids(folder)
        found = replace(found, tokenizer=tokenizer, chat=read_chat(folder) or found.chat, stop_ids=stop_ids)
    if said and found.tokenizer.vocab_size > found.config.vocabulary:
        resize_embeddings(found.model, found.tokenizer.vocab_size, said["seed"])
    load_adapter(found.model, folder, name="asked", base=PeftBase(None, base_fingerprint(found.model)))
    if config is not None:
        quantize_layers(found.model, config)
    found.model.eval()
    return replace(found, config=found.model.config)


def _check_class(place: Place, folder: Path, trained: bool | None, wrapped: bool | None) -> None:
    """RecipeError where `wrapped` asks for another class than the adapter was trained beside: the same weights have
    other names there.
    """
    if wrapped is None or place.adapter is not None or _is_theirs(place, trained) == _is_theirs(place, wrapped):
        return
    beside, asked = ("transformers' class" if _is_theirs(place, said) else "tilth's own" for said in (trained, wrapped))
    how = "without model.wrapped" if trained is None else f"with model.wrapped: {str(trained).lower()}"
    raise RecipeError(
        f"the adapter in {folder} was trained {how}, of {place.asked} beside {beside}, and wrapped asks for {asked}",
        "leave wrapped out (--wrapped)",
    )


def _base_of(place: Place, device: torch.device, later: bool, dtype: torch.dtype) -> LanguageModel:
    """What a run's adapter was trained beside, as it was before the recipe added tokens."""
    said = place.base
    base = open_base(said["from"], said["context_length"], wrapped=said.get("wrapped"))
    if isinstance(base.config, WrappedConfig):
        _check_theirs(dtype, base.place.weights)
    return _made(base_model(base, device, said["seed"], later=later), base.place)


def _checkpoint(folder: Path, which: Which) -> Path:
    """The folder of one of a run's checkpoints."""
    store = CheckpointStore(folder)
    if isinstance(which, int):
        return store.at(which).path
    checkpoint = store.best() if which == "best" else store.latest(set_aside=False)[0]
    if checkpoint is None:
        raise CheckpointError(f"no {which} checkpoint in {store.folder}", "train first: `tilth train RECIPE`")
    return checkpoint.path
