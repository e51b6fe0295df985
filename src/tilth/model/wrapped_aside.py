"""Tensors of a checkpoint that transformers' own class does not take, though nothing of the model is lost by that.

    reason_to_ignore(name, values) -> str | None

Their class leaves aside whatever it does not know, whole layers too, and says so in a log at the most.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_BUFFER = "a buffer, no weight"
_HEAD = "a head for another task is no part of a language model"
_AHEAD = "it guesses further tokens ahead, beside the next one"
_ASIDE = (
    (r"(.+\.)?(attn|attention|self_attn)\.(bias|masked_bias|causal_mask)", _BUFFER),
    (r"(.+\.)?((original_)?inv_freq|(cos|sin)_cached|position_ids|token_type_ids|embed_positions\.weights)", _BUFFER),
    (r"(.+\.)?pooler\..+", "the pooled first token is for classification"),
    (r"cls\.seq_relationship\..+", "next-sentence prediction is no part of a language model"),
    (r"(classifier|score|qa_outputs|v_head|sop_classifier|discriminator_predictions)\..+", _HEAD),
    (r"(lm_predictions|mask_predictions)\..+", _HEAD),
    (r"(model\.)?mtp(_layers)?\..+", _AHEAD),
)  # fmt: skip
"""Patterns of names, and why nothing needs them. What a class itself declares to be so, transformers does not tell."""


def reason_to_ignore(name: str, values: Mapping[str, Any]) -> str | None:
    """Why scores do not need a tensor that the class does not take; None where it may be a part of the model.

    Args:
        values: of config.json. Layers that guess ahead stand behind the others in DeepSeek V3 and its like.
    """
    layers, ahead = values.get("num_hidden_layers"), values.get("num_nextn_predict_layers")
    found = re.match(r"(?:model\.)?layers\.(\d+)\.", name)
    if found and isinstance(layers, int) and isinstance(ahead, int) and layers <= int(found[1]) < layers + ahead:
        return _AHEAD
    return next((reason for pattern, reason in _ASIDE if re.fullmatch(pattern, name)), None)
