# SPDX-License-Identifier: Apache-2.0
"""Read pickles that hold plain values and numpy arrays, and nothing that can run.

Unpickling calls whatever a file names. Data sets are often shared as pickles, so the names are
checked against the few that numpy needs to rebuild an array; any other is refused before it is
imported.
"""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from key2mesh_core.errors import EvaluationError

# numpy moved its internals from core to _core in 2.0; files name the one that wrote them.
_CORES = ("core", "_core")
_CORE = importlib.import_module(f"numpy.{_CORES[int(np.__version__.split('.')[0]) >= 2]}")

_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.multiarray", "_reconstruct"): _CORE.multiarray._reconstruct
        for core in _CORES
    },
    **{(f"numpy.{core}.multiarray", "scalar"): _CORE.multiarray.scalar for core in _CORES},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _CORE.numeric._frombuffer for core in _CORES},
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which an array does not need"
            ) from None


def load_pickled_arrays(path: str | Path) -> Any:
    """Content of a pickle made of dicts, lists, numbers, strings and numpy arrays.

    Raises:
        EvaluationError: the file is missing, truncated, or names anything else (said by name).
    """
    try:
        with open(path, "rb") as file:
            return _ArrayUnpickler(file).load()
    except OSError as error:
        raise EvaluationError(f"cannot read {path}: {error}") from error
    # A damaged pickle can fail in nearly any way inside the unpickler.
    except Exception as error:
        raise EvaluationError(
            f"refused to unpickle {path}: {error}. Take the file from its official source."
        ) from error
