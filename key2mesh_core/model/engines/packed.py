# SPDX-License-Identifier: Apache-2.0
"""Several tensors packed in one piece of memory, so that one copy moves them all."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.model.engines.protocol import Shapes

ALIGNMENT = 256  # bytes; what TensorRT asks of an address


@dataclass(frozen=True)
class Layout:
    """Where tensors of some persons lie in one piece of memory.

    Attributes:
        offsets: name -> bytes from the start.
        shapes: name -> (N, ...).
        size: bytes in all.
    """

    offsets: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    size: int

    @classmethod
    def of(cls, shapes: Shapes, persons: int) -> Layout:
        offsets, size = {}, 0
        for name, shape in shapes.items():
            offsets[name] = size
            size += -(-4 * persons * math.prod(shape) // ALIGNMENT) * ALIGNMENT
        return cls(offsets, {name: (persons, *x) for name, x in shapes.items()}, size)

    def views(self, address: int) -> dict[str, NDArray[np.float32]]:
        """The tensors as arrays over memory at this address."""
        return {
            name: _array(address + self.offsets[name], shape) for name, shape in self.shapes.items()
        }


def _array(address: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    memory = (ctypes.c_float * math.prod(shape)).from_address(address)
    return np.frombuffer(memory, np.float32).reshape(shape)
