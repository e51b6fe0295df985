"""What every family is made of: how its config.json is read and written, and what its tensors are called. No torch.

Keys       a config.json being read: every key is read, known to change nothing, or refused
Place      where one of our parameters lies in a checkpoint
Family     the two together
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tilth.core.errors import CheckpointError
from tilth.core.faults import short
from tilth.model.config import ModelConfig

MOST_LAYERS = 10_000
USE_WRAPPED = (
    "use transformers' own class: model.wrapped: true in a recipe, --wrapped with a command, wrapped=True in Python"
)

# What says how a model is run, decoded, fine-tuned or stored, not what it computes; and what published files carry that
# transformers reads nowhere.
_HARMLESS = re.compile(
    r"""_.*|unsloth_.*|summary_.*|output_.*|.*_token_ids?|architectures|auto_map|torch_dtype|dtype|transformers_version
    |use_cache|cache_implementation|return_dict.*|id2label|label2id|num_labels|problem_type|task_specific_params
    |finetuning_task|tokenizer_.*|(bos|eos|pad|unk)_token|prefix|pretraining_tp|gradient_checkpointing|classifier_dropout|torchscript
    |chunk_size_feed_forward|use_bfloat16|tf_legacy_loss|model_type|max_length|min_length|do_sample|temperature
    |top_k|top_p|typical_p|num_beams.*|num_return_sequences|repetition_penalty|length_penalty|diversity_penalty
    |no_repeat_ngram_size|encoder_no_repeat_ngram_size|bad_words_ids|suppress_tokens|begin_suppress_tokens
    |exponential_decay_length_penalty|early_stopping|remove_invalid_values|reorder_and_upcast_attn|n_ctx
    |cross_attention_hidden_size|attn_implementation|use_flash_attn|neftune_noise_alpha|xla_device
    |is_llama_config|transformers\.js_config|predict_special_tokens
    |tilth_context_length|seq_length|max_seq_len|max_seq_length|max_sequence_length|model_max_length""",
    re.VERBOSE,
)

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
GATES = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu", "gelu_pytorch_tanh": "geglu_tanh"}


class Keys:
    """The keys of a config.json. Whoever reads one takes it; `finish` refuses what nobody took and that may matter.

    Args:
        place: the file, for messages.
    """

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        self.values, self.place = values, place
        self._taken: set[str] = set()

    def take(self, key: str, default: Any = None) -> Any:
        """The value; the default also where it is null, as transformers has it."""
        self._taken.add(key)
        value = self.values.get(key)
        return default if value is None else value

    def instead(self, values: Mapping[str, Any]) -> Keys:
        """The same file with other values, for a reader that would take some otherwise; what it takes counts here."""
        keys = Keys(values, self.place)
        keys._taken = self._taken
        return keys

    def size(self, key: str) -> int:
        """A number that the file must state."""
        value = self.take(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            state = "is missing" if value is None else f"is {short(value)}"
            raise CheckpointError(
                f"{self.place}: {key} {state}", "it must be a positive whole number: get the file again"
            )
        return value

    def layers(self, key: str) -> int:
        """A number of layers; bounded, for lists are made as long."""
        count = self.size(key)
        if count > MOST_LAYERS:
            raise self.refused(key, count, f"no model has more than {MOST_LAYERS:,} layers: get the file again")
        return count

    def only(self, key: str, *honoured: Any, default: Any = None) -> Any:
        """The value, which must be one of those that can be honoured."""
        value = self.take(key, default)
        if value not in honoured:
            raise self.refused(key, value)
        return value

    def choice(self, key: str, table: Mapping[str, str], default: str) -> str:
        """What the value is called here."""
        value = self.take(key, default)
        if not isinstance(value, str) or value not in table:
            raise self.refused(key, value)
        return table[value]

    def refused(
        self, key: str, value: object, remedy: str = f"{USE_WRAPPED}; or use another checkpoint"
    ) -> CheckpointError:
        """The error for a value that would change what the model computes, and that cannot be honoured.

        Args:
            remedy: where transformers' own class does not compute it either.
        """
        return CheckpointError(
            f"{self.place}: {key} is {short(value)}, which tilth's own model does not compute", remedy
        )

    def finish(self) -> None:
        """CheckpointError when a key is left over that may change what the model computes; null, false and empty ones
        ask for nothing.
        """
        for key, value in self.values.items():
            if key in self._taken or value in (None, {}, []) or value is False or _HARMLESS.fullmatch(key):
                continue
            if key in ("quantization_config", "quantization"):
                raise CheckpointError(
                    f"{self.place}: {key} is {short(value)}: the weights are quantized, and tilth reads plain ones",
                    "name the checkpoint that they were made of; adapter.quantize: nf4 holds it in four bits",
                )
            raise CheckpointError(
                f"{self.place}: {key} is {short(value)}, which may change what the model computes",
                f"take the key out of the file if it changes nothing; or {USE_WRAPPED}",
            )


@dataclass(frozen=True, slots=True)
class Place:
    """Where one of our parameters lies: in a tensor, which may be stored [in, out], and hold several of ours one after
    another along its outputs.
    """

    tensor: str
    transposed: bool = False
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Family:
    """One model type of Hugging Face.

    Args:
        architecture: the class that config.json names, and others whose weights hold the same.
        read: the keys of a `ModelConfig` from those of config.json.
        write: config.json (without architecture and model type) of a config that it can express.
        place: where the parameter of a name lies.
        old_names: patterns of names that other writers use, and what they are called now.
        ignored: patterns of tensors that the model does not need, and why.
        copies: tensors that repeat another where weights are tied.
    """

    model_type: str
    architecture: str
    read: Callable[[Keys], dict[str, Any]]
    write: Callable[[ModelConfig], dict[str, Any]]
    place: Callable[[str], Place]
    also: tuple[str, ...] = ()
    old_names: tuple[tuple[str, str], ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)

    def today(self, name: str) -> str:
        """What a tensor is called now."""
        for pattern, replacement in self.old_names:
            name = re.sub(pattern, replacement, name)
        return name

    def reason_to_ignore(self, name: str) -> str | None:
        """Why the model does not need a tensor, if it does not."""
        return next((reason for pattern, reason in self.ignored if re.fullmatch(pattern, name)), None)


def inverse(table: Mapping[str, str], ours: str) -> str:
    """The first of their names for one of ours; their first of all where they have none, which shows when it is read
    back.
    """
    return next((theirs for theirs, name in table.items() if name == ours), next(iter(table)))
