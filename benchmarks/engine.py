# SPDX-License-Identifier: Apache-2.0
"""The estimator on ONNX Runtime against the same network and body in PyTorch eager.

All contestants get the same keypoints and give the same bodies, which is checked in millimetres
before anything is timed. The network has random weights: they cost what trained ones cost.

- "engine": `Estimator.estimate`, as a robot calls it, checks of its input included;
- "torch": the modules that were exported, run eagerly;
- "torch + smplx": the same network with the `smplx` package as body, as published code does it.
  That package has no way to pose a body without its mesh, so it pays for one in both rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.timing import SETTLE_S, Timing, interleave
from key2mesh_core.body.data import BodyData
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.camera import Intrinsics
from key2mesh_core.estimator import Estimator
from key2mesh_core.export import sample_inputs, write_bundle
from key2mesh_core.graphs import MeshGraph, PoseGraph
from key2mesh_core.keypoints import SEEN_CONFIDENCE
from key2mesh_core.network import Key2Mesh

BATCHES = (1, 8, 64, 512)
CAMERA = Intrinsics(500.0, 510.0, 320.0, 240.0)

Contestant = Callable[[NDArray[np.float32], bool], NDArray[np.float32]]
"""keypoints (N, 18, 3), with mesh or not -> vertices (N, V, 3) or joints (N, 24, 3) [m]."""


def run(
    data: BodyData,
    batches: Sequence[int] = BATCHES,
    threads: int = 2,
    budget_s: float = 10.0,
    rounds: int = 5,
    settle_s: float = SETTLE_S,
) -> list[dict[str, Any]]:
    """One row per batch size, with and without mesh: times [ms] and how many times as long as
    the engine the others take. `budget_s` is for one row."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = Key2Mesh().eval()
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(
            Path(folder) / "bundle",
            name="benchmark",
            network=network,
            data=data,
            body=BodyModel(data),
            centre=True,
            card={},
            # Halves only save space on disk; whole weights let all contestants agree closely.
            half_weights=False,
        )
        estimator = Estimator(bundle, threads=threads)
        contestants = {"engine": _engine(estimator), "torch": _torch(network, BodyModel(data))}
        body = smplx_body(data)
        if body is not None:
            contestants["torch + smplx"] = _torch_with_smplx(network, body)
        rows = []
        for batch in batches:
            keypoints = people(batch)
            agreement = largest_difference_mm(contestants, keypoints)
            for mesh in (True, False):
                calls = {
                    name: _call(contestant, keypoints, mesh)
                    for name, contestant in contestants.items()
                }
                timings = interleave(calls, budget_s=budget_s, rounds=rounds, settle_s=settle_s)
                rows.append(_row(batch, mesh, timings, agreement))
        estimator.close()
    return rows


def people(count: int) -> NDArray[np.float32]:
    """(count, 18, 3) keypoints of people who can all be estimated: everything is seen."""
    keypoints = sample_inputs(count)[0].numpy()
    keypoints[..., 2] = np.maximum(keypoints[..., 2], SEEN_CONFIDENCE)
    return keypoints


def smplx_body(data: BodyData) -> torch.nn.Module | None:
    """The same body in the `smplx` package, or None where that is not installed."""
    try:
        from benchmarks.smplx_body import SmplxBody
    except ModuleNotFoundError as error:
        if error.name != "smplx":
            raise
        return None
    return SmplxBody(data)


def largest_difference_mm(
    contestants: dict[str, Contestant], keypoints: NDArray[np.float32]
) -> float:
    """How far any vertex or joint lies from the engine's, relative to the body's middle [mm]."""
    largest = 0.0
    for mesh in (True, False):
        points = {name: each(keypoints, mesh) for name, each in contestants.items()}
        # Random weights make people of random depth: what is compared is the body.
        centred = {name: p - p.mean(axis=1, keepdims=True) for name, p in points.items()}
        for name in centred:
            largest = max(largest, float(np.abs(centred[name] - centred["engine"]).max()))
    return 1000.0 * largest


def _call(contestant: Contestant, keypoints: NDArray[np.float32], mesh: bool) -> Callable:
    return lambda: contestant(keypoints, mesh)


def _engine(estimator: Estimator) -> Contestant:
    def estimate(keypoints: NDArray[np.float32], mesh: bool) -> NDArray[np.float32]:
        bodies = estimator.estimate(keypoints, CAMERA, vertices=mesh)
        return bodies.joints if bodies.vertices is None else bodies.vertices

    return estimate


def _torch(network: Key2Mesh, body: BodyModel) -> Contestant:
    pose, mesh_graph = PoseGraph(network, body, centre=True).eval(), MeshGraph(body).eval()

    @torch.inference_mode()
    def estimate(keypoints: NDArray[np.float32], mesh: bool) -> NDArray[np.float32]:
        betas, rotations, translation, joints, _ = pose(*_tensors(keypoints))
        return (mesh_graph(betas, rotations, translation) if mesh else joints).numpy()

    return estimate


def _torch_with_smplx(network: Key2Mesh, body: torch.nn.Module) -> Contestant:
    pose = PoseGraph(network, body, centre=True).eval()

    @torch.inference_mode()
    def estimate(keypoints: NDArray[np.float32], mesh: bool) -> NDArray[np.float32]:
        _, _, translation, joints, _ = pose(*_tensors(keypoints))
        return (body.latest_vertices + translation[:, None] if mesh else joints).numpy()

    return estimate


def _tensors(keypoints: NDArray[np.float32]) -> tuple[torch.Tensor, torch.Tensor]:
    camera = torch.from_numpy(CAMERA.as_array()).expand(len(keypoints), 4)
    return torch.from_numpy(keypoints), camera


def _row(batch: int, mesh: bool, timings: dict[str, Timing], agreement: float) -> dict[str, Any]:
    engine = timings["engine"].median_ms
    return {
        "batch": batch,
        "mesh": mesh,
        "timings": {name: asdict(timing) for name, timing in timings.items()},
        "times_the_engine": {name: timing.median_ms / engine for name, timing in timings.items()},
        "largest_difference_mm": agreement,
    }
