# SPDX-License-Identifier: Apache-2.0
"""Our estimator as a robot calls it, including the checks of its input.

The shipped bundle, the same network exported with 32-bit weights and, if available, TensorRT.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.floors import Stage, mesh_stage, network_stage
from benchmarks.names import ENGINE, ENGINE_PUBLISHED, FLOAT32
from benchmarks.people import Answer, Contestant, camera
from key2mesh_core.body.data import BodyData
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.learning.export import write_bundle
from key2mesh_core.model.block_linear import BLOCK, is_block_linear
from key2mesh_core.model.bundle import Bundle
from key2mesh_core.model.estimator import BACKENDS, Estimator
from key2mesh_core.network.key2mesh import Key2Mesh

#: The integers of a block, and its scale's share.
_BLOCK_BYTES = 1 + 4 / BLOCK


@contextmanager
def engines(
    bundle: Bundle, data: BodyData, network: Key2Mesh, published: Key2Mesh, threads: int
) -> Iterator[list[Contestant]]:
    """Our engine in every precision; closed afterwards.

    Args:
        bundle: what is shipped.
        data: its body.
        network: its network.
        published: the published network, for comparison.
        threads: CPU threads.
    """
    with ExitStack() as opened:
        folder = Path(opened.enter_context(TemporaryDirectory()))
        exact, as_published = (
            write_bundle(
                folder / name,
                name=name,
                network=each,
                data=data,
                body=BodyModel(data, bundle.card["detector_keypoints"]),
                centre=bundle.card["centre_view"],
                card=bundle.card,
                block_weights=blocks,
            )
            for name, each, blocks in (
                ("float32", network, False),
                ("published", published, True),
            )
        )
        found = []
        for name, each in (
            (ENGINE, bundle),
            (FLOAT32, exact),
            (ENGINE_PUBLISHED, as_published),
        ):
            estimator = Estimator(each, "onnx", threads)
            opened.callback(estimator.close)
            stages = (_stage(each), mesh_stage(data))
            same = each is not as_published
            found.append(Contestant(name, estimates(estimator), stages=stages, same_network=same))
        if "tensorrt" in BACKENDS:
            found += _tensorrt(exact, data, threads, opened)
        yield found


def estimates(estimator: Estimator) -> Answer:
    """Wraps an estimator as a benchmark method."""
    intrinsics = camera()

    def answer(keypoints: NDArray[np.float32], mesh: bool) -> NDArray[np.float32]:
        bodies = estimator.estimate(keypoints, intrinsics, vertices=mesh)
        return bodies.joints if bodies.vertices is None else bodies.vertices

    return answer


def _stage(bundle: Bundle) -> Stage:
    """The bytes that the bundle's network reads, by storage of its weights."""
    graph = onnx.load(bundle.pose_path).graph
    if any(is_block_linear(node) for node in graph.node):
        # Inputs of 8 bits alone move vertices by up to 6 mm: the job takes two products of them.
        stage = network_stage(_BLOCK_BYTES, "int8")
        return replace(stage, operations=2 * stage.operations)
    return network_stage()


def _tensorrt(bundle: Bundle, data: BodyData, threads: int, opened: ExitStack) -> list[Contestant]:
    try:
        estimator = Estimator(bundle, "tensorrt", threads)
    except (ImportError, Key2MeshError):  # no GPU, or no library
        return []
    opened.callback(estimator.close)
    stages = (network_stage(), mesh_stage(data))
    return [Contestant("engine, TensorRT", estimates(estimator), "cuda", stages)]
