# SPDX-License-Identifier: Apache-2.0
"""The stages of a frame, from the receipt of keypoints to the published meshes, and their times."""

from __future__ import annotations

import time

WAIT, READ, SELECT, POSE = "wait", "read", "select", "pose"
STEADY, MESH, PUBLISH = "steady", "mesh", "publish"

STAGES: dict[str, str] = {
    WAIT: "for the node's executor, and taking the bytes",
    READ: "bytes to keypoints",
    SELECT: "camera, and whom to estimate",
    POSE: "the pose graph",
    STEADY: "scale, names and smoothing",
    MESH: "the mesh graph",
    PUBLISH: "bodies to bytes, handed to the middleware",
}
"""Every stage in the order of a frame, with its description."""


class Stages:
    """The seconds that each stage of one frame takes, `waited` of them before it was taken up."""

    def __init__(self, waited: float = 0.0) -> None:
        self.seconds = {WAIT: waited}
        self._last = time.perf_counter()

    def end(self, stage: str) -> None:
        """End a stage, which began when the previous one ended."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now
