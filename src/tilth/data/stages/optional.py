"""Libraries that a stage needs and that an extra of tilth brings: asked for when a recipe is read."""

from __future__ import annotations

from importlib.util import find_spec


def require(module: str, extra: str, stage: str) -> None:
    """ValueError, in the words of a validator, when a library is not installed; nothing of it is imported."""
    if find_spec(module) is None:
        raise ValueError(f"`{stage}` needs {module}, which is not installed | pip install 'tilth[{extra}]'")
