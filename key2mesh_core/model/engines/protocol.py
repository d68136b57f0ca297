# SPDX-License-Identifier: Apache-2.0
"""What every engine offers, and what is expected of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import EngineError

Tensors = Mapping[str, NDArray[np.float32]]
Shapes = Mapping[str, tuple[int, ...]]


class Engine(Protocol):
    """Runs one graph on batches of persons.

    `run` may be called by several threads at once only where an engine says so.
    """

    device: str
    """Where the graph runs, in words for logs and diagnostics."""

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Outputs by name for inputs by name; float32, N >= 1 persons along the first axis.

        Raises:
            EngineError: the inputs do not fit the graph, or the library failed.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds; closing twice is allowed, running afterwards is not."""
        ...


@dataclass(frozen=True)
class Signature:
    """Names and shapes of a graph's inputs and outputs; float32, the batch axis left out."""

    inputs: Shapes
    outputs: Shapes

    def check(self, graph: str, inputs: Mapping[str, list], outputs: Mapping[str, list]) -> None:
        """Compare with what a library says of a graph.

        Args:
            graph: the graph's file, for messages.
            inputs, outputs: name -> shape with the batch axis first; a size that is not an
                integer is symbolic (and the batch axis must be).

        Raises:
            EngineError: names or shapes differ; says which and how.
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
                if not _fits(found[name], shape):
                    raise EngineError(
                        f"{graph}: {kind[:-1]} '{name}' must have shape "
                        f"{('N', *shape)} with a dynamic N, the graph has {tuple(found[name])}; "
                        "export the bundle again with this version"
                    )


def _fits(found: list, shape: tuple[int, ...]) -> bool:
    if len(found) != len(shape) + 1 or isinstance(found[0], int):
        return False
    # A symbolic size cannot be checked before a run; exporters leave some in outputs.
    return all(
        not isinstance(got, int) or got == size for got, size in zip(found[1:], shape, strict=True)
    )
