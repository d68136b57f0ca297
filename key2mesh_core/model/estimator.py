# SPDX-License-Identifier: Apache-2.0
"""The run-time interface: estimates bodies in metres from detections in pixels, with numpy and an
engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import CameraError, EngineError, KeypointError
from key2mesh_core.keypoints import arrays
from key2mesh_core.keypoints.table import STANDING
from key2mesh_core.model.bundle import (
    MESH_GRAPH,
    POSE_GRAPH,
    POSE_SIGNATURE,
    Bundle,
    mesh_signature,
)
from key2mesh_core.model.engines.choice import BACKENDS as BACKENDS
from key2mesh_core.model.engines.choice import choose
from key2mesh_core.model.engines.onnx_gpu import GpuOptions as GpuOptions
from key2mesh_core.model.engines.protocol import Engine, Shapes
from key2mesh_core.people.bodies import Bodies
from key2mesh_core.people.quality import quality_of


class Estimator:
    """Estimates bodies from keypoints with a bundle's two graphs.

    Holds no state between calls: several threads may use one estimator at once. They share its
    engines, so two threads are not twice as fast.

    Args:
        bundle: from `load_bundle`.
        backend: "auto" (the fastest engine that is ready), "onnx", "tensorrt" or
            "onnxruntime-gpu"; see `choice.BACKENDS`.
        threads: CPU threads for one call.
        gpu: precision, recorded graphs and cache of "onnxruntime-gpu".

    Attributes:
        bundle: as given.
        body_model: the body's identifier, "name@<12 hex digits>".
        device: where the graphs run, in words.
        why: which engines were chosen and why, in a sentence.

    Raises:
        EngineError: the backend is unknown, or a graph cannot be loaded or does not match its
            signature.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str = "auto",
        threads: int = 2,
        gpu: GpuOptions | None = None,
    ) -> None:
        choice = choose(bundle, backend, threads, gpu)
        self.bundle, self.body_model = bundle, bundle.body_model
        self._pose, self._mesh = choice.pose, choice.mesh
        self.device, self.why = choice.pose.device, choice.why

    def estimate(
        self, keypoints: ArrayLike, intrinsics: Intrinsics, vertices: bool = True
    ) -> Bodies:
        """The bodies of N people.

        Args:
            keypoints: (N, K, 3) x px, y px, confidence in the network's order (`to_network`);
                any float or integer type, any strides; N may be 0 or thousands. NaN, infinite
                and absurd coordinates count as unseen.
            intrinsics: of the camera that the pixels come from.
            vertices: whether to compute meshes.

        Returns:
            N bodies, all numbers finite.

        Raises:
            KeypointError: the shape is wrong, or a person is not `usable`: select people first.
            CameraError: `intrinsics` is not an `Intrinsics`.
            EngineError: an engine failed, or gave numbers that are not finite.
        """
        bodies = self.estimate_poses(keypoints, intrinsics)
        return self.add_vertices(bodies) if vertices else bodies

    def estimate_poses(
        self,
        keypoints: ArrayLike,
        intrinsics: Intrinsics | NDArray[np.float32],
        sizes: NDArray[np.float32] | None = None,
    ) -> Bodies:
        """`estimate` without vertices, so that a smoother can change the bodies before
        `add_vertices`; `intrinsics` may also be (N, 4) fx, fy, cx, cy px, a camera for each person.

        `sizes`, the keypoints' `person_sizes`, states that the keypoints come from `sanitise` and
        that everybody is `usable`; they are then not checked again.
        """
        if isinstance(intrinsics, Intrinsics):
            intrinsics = intrinsics.as_array()
        elif not isinstance(intrinsics, np.ndarray):
            raise CameraError(f"intrinsics must be an Intrinsics, got {type(intrinsics).__name__}")
        if sizes is None:
            keypoints = arrays.sanitise(keypoints)
            sizes = arrays.person_sizes(keypoints)
            _refuse_unusable(keypoints, sizes)
        clean = np.asarray(keypoints, np.float32)
        camera = np.broadcast_to(intrinsics, (len(clean), 4))
        outputs = _run_in_chunks(
            self._pose,
            POSE_GRAPH,
            {"keypoints": clean[:, : self.bundle.keypoints], "intrinsics": camera},
            POSE_SIGNATURE.outputs,
        )
        quality = quality_of(clean, outputs["reprojection_error"], sizes)
        return Bodies(**outputs, quality=quality)

    def add_vertices(self, bodies: Bodies) -> Bodies:
        """The same bodies with `vertices` computed from their betas, rotations and translation."""
        signature = mesh_signature(self.bundle.vertex_count)
        inputs = {name: getattr(bodies, name) for name in signature.inputs}
        outputs = _run_in_chunks(self._mesh, MESH_GRAPH, inputs, signature.outputs)
        return replace(bodies, vertices=outputs["vertices"])

    def warm_up(self) -> None:
        """Run both graphs once, so that the first person does not wait for allocations."""
        keypoints = np.ones((1, len(STANDING), 3), np.float32)
        keypoints[0, :, :2] = [320.0, 240.0] + 360.0 * np.array(STANDING)
        self.estimate(keypoints, Intrinsics.from_field_of_view(640, 480))

    def close(self) -> None:
        """Free both engines."""
        self._pose.close()
        self._mesh.close()


def _refuse_unusable(clean: NDArray[np.float32], sizes: NDArray[np.float32]) -> None:
    few, spot = arrays.unusable(clean, sizes)
    bad = few | spot
    if not bad.any():
        return
    person = int(np.argmax(bad))
    seen = arrays.seen_counts(clean)[person]
    raise KeypointError(
        f"{int(bad.sum())} of {len(bad)} persons cannot be estimated; the first is number "
        f"{person} with {seen} usable keypoints (at least {arrays.MINIMUM_KEYPOINTS} are needed, "
        f"in a box of at least {arrays.MINIMUM_SIZE_PX:g} px): leave out such persons with usable()"
    )


def _run_in_chunks(
    engine: Engine, graph: str, inputs: dict[str, NDArray[np.float32]], shapes: Shapes
) -> dict[str, NDArray[np.float32]]:
    """Run one engine on all people, `most` at a time, and check that the outputs are finite."""
    count = len(next(iter(inputs.values())))
    results = {name: np.empty((count, *shape), np.float32) for name, shape in shapes.items()}
    for start in range(0, count, engine.most):
        chunk = slice(start, min(start + engine.most, count))
        outputs = engine.run(
            {name: np.ascontiguousarray(x[chunk], np.float32) for name, x in inputs.items()}
        )
        for name, result in results.items():
            values, wanted = outputs.get(name), result[chunk].shape
            if values is None or values.shape != wanted:
                found = "nothing" if values is None else f"shape {values.shape}"
                raise EngineError(f"{graph}: '{name}' must be {wanted}, the engine gave {found}")
            # One non-finite number makes the sum non-finite; this takes a quarter of the time of
            # checking each.
            if not np.isfinite(values.sum()) and not (finite := np.isfinite(values)).all():
                person = start + int(np.argmin(finite.reshape(len(values), -1).all(axis=1)))
                raise EngineError(
                    f"{graph}: '{name}' of person {person} is not finite; the model's weights are "
                    "damaged or unfit for this input: use another bundle"
                )
            result[chunk] = values
    return results
