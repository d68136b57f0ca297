# SPDX-License-Identifier: Apache-2.0
"""The interface of every engine, and the signature of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import EngineError

Tensors = Mapping[str, NDArray[np.float32]]
Shapes = Mapping[str, tuple[int, ...]]


class Engine(Protocol):
    """Runs one graph on batches of people.

    Several threads may call `run` at once only if the engine says so.
    """

    most: int
    """Largest number of people per run; the caller splits larger groups."""
    device: str
    """Where the graph runs, for logs and diagnostics."""

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Outputs by name for inputs by name; float32, N >= 1 people along the first axis.

        Raises:
            EngineError: the inputs do not match the graph, or the library failed.
        """
        ...

    def close(self) -> None:
        """Free the engine's resources. May be called twice; `run` afterwards is an error."""
        ...


@dataclass(frozen=True)
class Signature:
    """Names and shapes of a graph's inputs and outputs; float32, without the batch axis."""

    inputs: Shapes
    outputs: Shapes

    def persons(self, inputs: Tensors) -> int:
        """The number of people in the inputs; 0 if they do not match the graph, or are not
        float32."""
        persons = len(next(iter(inputs.values()), ()))
        wanted = {name: ("float32", persons, *shape) for name, shape in self.inputs.items()}
        return persons if described(inputs) == wanted else 0

    def check(self, graph: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Compare with the inputs and outputs that a library reports for a graph.

        Args:
            graph: the graph's file, for messages.
            inputs, outputs: name -> shape with the batch axis first; a size that is -1 or not an
                integer is symbolic (as the batch axis must be).

        Raises:
            EngineError: names or shapes differ; says which.
        """
        for kind, expected, found in (
            ("inputs", self.inputs, inputs),
            ("outputs", self.outputs, outputs),
        ):
            if set(expected) != set(found):
                raise EngineError(
                    f"{graph}: expected {kind} {sorted(expected)}, the graph has {sorted(found)}; "
                    "export the bundle again with this version"
                )
            for name, shape in expected.items():
                # A symbolic size, which exporters leave in some outputs, cannot be checked before a
                # run.
                sizes = [x if isinstance(x, int) and x >= 0 else None for x in found[name]]
                fits = len(sizes) == len(shape) + 1 and sizes[0] is None
                if not fits or any(
                    x not in (None, y) for x, y in zip(sizes[1:], shape, strict=True)
                ):
                    raise EngineError(
                        f"{graph}: {kind[:-1]} '{name}' must have shape "
                        f"{('N', *shape)} with a dynamic N, the graph has {tuple(found[name])}; "
                        "export the bundle again with this version"
                    )


def described(tensors: Tensors) -> dict[str, tuple[Any, ...]]:
    """Type and shape of each tensor, for messages."""
    return {name: (values.dtype.name, *values.shape) for name, values in tensors.items()}
