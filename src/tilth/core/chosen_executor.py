"""The executor that a command names.

open_executor(name, workers)
"""

from __future__ import annotations

from tilth.core.executors import Executor, ExecutorName, Inline, Processes
from tilth.core.ray_cluster import RayCluster


def open_executor(name: ExecutorName, workers: int) -> Executor:
    """The executor of a name; RecipeError when it cannot be had here."""
    if name == "ray":
        return RayCluster(workers)
    return Processes(workers) if workers > 1 else Inline()
