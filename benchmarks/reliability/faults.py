# SPDX-License-Identifier: Apache-2.0
"""Every call of an engine made to fail, at the 1st, 2nd, 3rd... in every way in which one can.

A call while the node is being configured must fail that transition by name, and the next try must
work. A call for a frame must be refused and counted under its cause, and the next frame answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
from helpers_ros import Client, client, node_here, people, standing
from numpy.typing import NDArray

from benchmarks.reliability.checks import Outcome
from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.model.engines.onnx import OnnxEngine
from key2mesh_core.model.estimator import Estimator
from key2mesh_ros import mesh_node

CALLS = 60

Outputs = dict[str, NDArray[np.float32]]


def _raise(error: Exception) -> Callable[[Outputs], Outputs]:
    def fail(outputs: Outputs) -> Outputs:
        raise error

    return fail


WAYS: dict[str, tuple[Callable[[Outputs], Outputs], str]] = {
    # how it fails: (what becomes of its outputs, how a frame is then counted)
    "says why": (_raise(EngineError("injected")), "engine_failed"),
    "raises anything": (_raise(RuntimeError("injected")), "failed"),
    "is out of memory": (_raise(MemoryError("injected")), "failed"),
    "gives NaN": (
        lambda outputs: {name: np.full_like(x, np.nan) for name, x in outputs.items()},
        "engine_failed",
    ),
    "gives infinities": (
        lambda outputs: {name: np.full_like(x, np.inf) for name, x in outputs.items()},
        "engine_failed",
    ),
    "gives another shape": (
        lambda outputs: {name: x[..., :-1] for name, x in outputs.items()},
        "engine_failed",
    ),
    "gives nothing": (lambda outputs: {}, "engine_failed"),
}


class Faulty:
    """Counts the calls of all its engines and lets one of them fail."""

    def __init__(self) -> None:
        self.calls = 0
        self.failing = 0
        self.way: Callable[[Outputs], Outputs] = dict

    def arm(self, failing: int, way: Callable[[Outputs], Outputs]) -> None:
        """Let the `failing`-th call from now fail."""
        self.calls, self.failing, self.way = 0, failing, way

    @property
    def happened(self) -> bool:
        return self.calls >= self.failing

    def estimator(self, bundle: Bundle, backend: str, threads: int) -> Estimator:
        """What the node takes for an Estimator."""
        engines = [OnnxEngine(each, threads) for each in (bundle.pose_path, bundle.mesh_path)]
        return Estimator.from_engines(bundle, *(_Engine(self, each) for each in engines))


class _Engine:
    def __init__(self, faults: Faulty, engine: OnnxEngine) -> None:
        self._faults, self._engine, self.device = faults, engine, engine.device

    def run(self, inputs: Outputs) -> Outputs:
        self._faults.calls += 1
        outputs = self._engine.run(inputs)
        return self._faults.way(outputs) if self._faults.calls == self._faults.failing else outputs

    def close(self) -> None:
        self._engine.close()


@contextmanager
def _faulty_node(model: str) -> Iterator[tuple[Faulty, Client]]:
    faults = Faulty()
    with (
        patch.object(mesh_node, "Estimator", faults.estimator),
        node_here(model=model, diagnostics_period=0.1, smoothing=True),
        client() as probe,
    ):
        yield faults, probe


def run(
    model: str, folder: Path, calls: int = CALLS, say: Callable[[str], None] = print
) -> Outcome:
    """Lets each of the first `calls` calls fail in each way."""
    result, silent, dead = Outcome(), [], []
    reported = refused = 0
    with _faulty_node(model) as (faults, probe):
        for way, (fail, cause) in WAYS.items():
            for failing in range(1, calls + 1):
                what = f"call {failing} {way}"
                faults.arm(failing, fail)
                if not probe.change_state("configure"):
                    reported += 1
                    if "configure failed" not in probe.fresh_status().message:
                        silent.append(f"{what}: {probe.status.message}")
                    if not probe.change_state("configure"):
                        dead.append(f"{what}: {probe.fresh_status().message}")
                        continue
                elif faults.happened:
                    silent.append(f"{what}: configured all the same")
                probe.change_state("activate")
                before = _counted(probe, cause)
                if not faults.happened:
                    _send_until(probe, faults)
                    refused += 1
                    if _counted(probe, cause) != before + 1:
                        silent.append(f"{what}: not counted as {cause}: {probe.values}")
                if len(probe.exchange(people(standing())).bodies) != 1:
                    dead.append(f"{what}: no body afterwards")
                probe.change_state("deactivate")
                probe.change_state("cleanup")
            say(f"faults: an engine {way}")
    total = calls * len(WAYS)
    result.check(f"{total} faults injected", f"{reported + refused}", reported + refused == total)
    result.none("fault passed over in silence", silent)
    result.none("node that did not recover", dead)
    result.figures = {"failed_transitions": reported, "refused_frames": refused}
    return result


def _counted(probe: Client, cause: str) -> int:
    probe.fresh_status()
    return probe.number(f"refused.{cause}")


def _send_until(probe: Client, faults: Faulty) -> None:
    """Frames, until the armed call has been made."""
    probe.wait_for_node()

    def happened() -> bool:
        probe.keypoints.publish(people(standing()))
        probe.spin(0.01)
        return faults.happened

    probe.wait(happened, f"call {faults.failing}")
