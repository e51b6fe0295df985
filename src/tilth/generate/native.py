"""Kernels in C++ for a model in bfloat16 (`kernels.cpp`), compiled once on this machine for its processor.

    kernels() -> Kernels | None       None where they cannot be: why_not() says the reason
    Kernels.products(...)             y = x W' + b of some rows, of several weights at once
    Kernels.attention(...)            one query of each head over a cache

torch reads a weight in bfloat16 no faster than one in fp32 where few rows are multiplied; these read it at the memory's
rate. The library is called by addresses, so who makes a call holds the tensors.
Shapes in names: B rows, I inputs, O outputs, H heads, K key/value heads, N width of a head, S tokens seen.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from tilth.core.environment import cache_folder, processor_facts
from tilth.core.errors import IntegrityError, TilthError
from tilth.core.files import new_folder, remove_whole, verify_manifest

_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-std=c++17")
_SECONDS = 120
_LIBRARY = "kernels.so"


class _Product(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "y")),
        *((name, ctypes.c_long) for name in ("outs", "ins", "stride")),
    )


class _Attention(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("keys", "values")),
        *(
            (name, ctypes.c_long)
            for name in ("batch", "heads", "kv_heads", "count", "width", "row_step", "head_step", "step")
        ),
        *((name, ctypes.c_float) for name in ("scale", "cap")),
    )


Weight = tuple[Tensor, Tensor | None]
"""bfloat16 [O, I], and an fp32 bias [O]."""


class Kernels:
    """The compiled library."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._products, self._attend = library.tilth_products, library.tilth_attend
        self._products.argtypes = (ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p, ctypes.c_long)
        self._attend.argtypes = (ctypes.c_void_p,) * 4
        self._products.restype = self._attend.restype = None

    def products(self, weights: Sequence[Weight], places: Sequence[Tensor]) -> Callable[[Tensor], None]:
        """A function of x, fp32 [B, I], that writes its products with the weights, all [O, I], into `places`: fp32
        [B, O], which may be columns of a larger tensor.
        """
        call, count, (rows, inputs) = self._products, len(weights), (len(places[0]), weights[0][0].shape[1])
        given = (_Product * count)(*(_said(*of, place) for of, place in zip(weights, places, strict=True)))
        held, shape = (given, weights, places), (rows, inputs)

        def write(x_BI: Tensor) -> None:
            x_BI = x_BI.contiguous()
            assert x_BI.shape == shape and x_BI.dtype == torch.float32
            call(held[0], count, x_BI.data_ptr(), rows)

        return write

    def attention(
        self, queries_BHN: Tensor, kv_heads: int, scale: float, cap: float | None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """A function of keys and values, bfloat16 [B, K, S, N], that gives what the queries see, fp32 [B, H * N]; the
        next call writes over it. `queries_BHN` is read anew in each call; its rows may lie apart.
        """
        batch, heads, width = queries_BHN.shape
        out_BD, call = _numbers(batch, heads * width), self._attend
        said = _Attention(None, None, batch, heads, kv_heads, 0, width, 0, 0, queries_BHN.stride(0), scale, cap or 0.0)
        scores = _numbers(0)

        def attend(keys_BKSN: Tensor, values_BKSN: Tensor) -> Tensor:
            nonlocal scores
            said.count = seen = keys_BKSN.shape[2]
            if scores.numel() < batch * heads * (seen + 16):
                scores = _numbers(batch * heads * (2 * seen + 16))
            assert keys_BKSN.stride() == values_BKSN.stride() and keys_BKSN.stride()[2:] == (width, 1)
            said.row_step, said.head_step = keys_BKSN.stride(0), keys_BKSN.stride(1)
            said.keys, said.values = keys_BKSN.data_ptr(), values_BKSN.data_ptr()
            call(ctypes.addressof(said), queries_BHN.data_ptr(), out_BD.data_ptr(), scores.data_ptr())
            return out_BD

        return attend


def _numbers(*shape: int) -> Tensor:
    return torch.empty(*shape, dtype=torch.float32, device="cpu")


def _said(weight_OI: Tensor, bias_O: Tensor | None, place_BO: Tensor) -> _Product:
    assert weight_OI.dtype == torch.bfloat16 and weight_OI.is_contiguous() and place_BO.stride(1) == 1
    assert place_BO.dtype == torch.float32 and (bias_O is None or bias_O.dtype == torch.float32)
    outputs, inputs = weight_OI.shape
    bias = None if bias_O is None else bias_O.data_ptr()
    return _Product(weight_OI.data_ptr(), bias, place_BO.data_ptr(), outputs, inputs, place_BO.stride(0))


def kernels() -> Kernels | None:
    """The kernels, compiled where they are not yet (a second); None where that cannot be."""
    return _made()[0]


def why_not() -> str:
    """Why there are none; nothing where there are."""
    return _made()[1]


@functools.cache
def _made() -> tuple[Kernels | None, str]:
    if sys.platform != "linux" or sys.byteorder != "little":
        return None, f"they are for Linux, and this is {platform.system()}"
    wanted = os.environ.get("CXX") or "g++"
    try:
        compiler = shlex.split(wanted)
        if not compiler or shutil.which(compiler[0]) is None:
            return None, f"there is no C++ compiler ({wanted})"
        return _library(compiler), ""
    except subprocess.CalledProcessError as error:
        return None, f"{wanted} failed: {_first_line(error.stderr)}"
    except (OSError, ValueError, subprocess.SubprocessError, AttributeError, TilthError) as error:
        return None, f"{wanted}: {_first_line(str(error))}"


def _library(compiler: list[str]) -> Kernels:
    """The library for this processor, compiler and source, made where it is not there as it was written: half of one
    would end the process when it is read.
    """
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True, timeout=_SECONDS)
    facts = (processor_facts(), compiler, version.stdout, _FLAGS, _SOURCE.read_text("utf-8"))
    folder = cache_folder() / "kernels" / hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
    try:
        return _loaded(folder)
    except IntegrityError:  # not made yet, or damaged
        pass
    except OSError:  # made on another system that has the same home
        remove_whole(folder)
    with new_folder(folder, replace_damaged=True) as made:
        command = [*compiler, *_FLAGS, str(_SOURCE), "-o", str(made / _LIBRARY)]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)
    return _loaded(folder)


def _loaded(folder: Path) -> Kernels:
    verify_manifest(folder)
    return Kernels(folder / _LIBRARY)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "it says nothing")[:400]
