# SPDX-License-Identifier: Apache-2.0
"""Shows bodies live in a browser (viser): meshes, skeletons, the camera and the ground.

The scene is the camera's optical frame (x right, y down, z forward, metres); its "up" is -y, so
that people are upright. This module does not use ROS; call `show` with each frame.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import time
from collections import deque
from itertools import product
from typing import Any

import numpy as np
import viser
from numpy.typing import NDArray

from key2mesh_core.camera.choose import Camera
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.people.mesh_frame import MeshFrame

PALETTE: tuple[tuple[int, int, int], ...] = (
    (86, 156, 214),
    (232, 141, 72),
    (110, 181, 115),
    (197, 108, 168),
    (222, 190, 84),
    (104, 190, 190),
)
"""Colours of people, in order of first appearance."""

BOXES = {"mesh": "mesh", "bones": "skeleton", "joints": "skeleton", "label": "reprojection error"}
"""The checkbox that shows or hides each part of a person."""

GROUND_MEMORY = 90
"""The ground is under the lowest foot of this many frames, and the initial view shows their
people."""

FRAMING_PERIOD_S = 1.0
"""Period at which the initial view follows the people [s]."""

FIELD_OF_VIEW = float(np.radians(38.0))
"""Vertical field of view of the page [rad]."""

CAMERA_SIZE_M = 0.4
"""Length of the drawn camera [m]."""

ASPECT = 4 / 3
"""Smallest aspect ratio (width by height) of the picture."""

_FROM = np.array([-0.6, -0.35, -0.75])  # from the left, above and behind the camera
_ROUNDS = 8
_FILLED = 0.8  # of the picture's height; a panel covers a part of its width


class Viewer:
    """A web page that shows bodies; only joints until `set_topology` is called.

    Args:
        host: address to serve on; "0.0.0.0" allows access from other machines.
        port: the first port to try; the next free one is taken.

    Raises:
        Key2MeshError: the port cannot be opened.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 8080) -> None:
        # Browsers open connections that they never use; each would log a traceback.
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
        try:
            # viser waits forever if it cannot bind the address.
            socket.create_server((host, 0)).close()
            with contextlib.redirect_stdout(io.StringIO()):  # its banner
                options = {"host": host, "port": port, "label": "Key2Mesh", "verbose": False}
                self._server = viser.ViserServer(**options)
        except (OSError, RuntimeError, ValueError) as error:
            raise Key2MeshError(f"cannot serve the view on {host}:{port}: {error}") from error
        self._triangles: NDArray[np.int32] | None = None
        self._parents: NDArray[np.int32] | None = None
        self._people: dict[str, dict[str, Any]] = {}
        self._colours: dict[str, tuple[int, int, int]] = {}
        self._lowest: deque[float] = deque(maxlen=GROUND_MEMORY)
        self._arrivals: deque[float] = deque(maxlen=30)
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=GROUND_MEMORY)
        self._framings, self._framed_at = 0, 0.0
        self._build()

    @property
    def url(self) -> str:
        """Address to open in a browser on this machine."""
        return f"http://localhost:{self._server.get_port()}"

    def set_topology(self, triangles: NDArray[np.int32], parents: NDArray[np.int32]) -> None:
        """Sets the triangles (F, 3) and each joint's parent (24,), -1 for none."""
        for name in list(self._people):
            self._remove(name)
        self._triangles, self._parents = triangles, parents

    def set_camera(self, camera: Camera) -> None:
        """Draws the camera's frustum at the origin."""
        self._server.scene.add_camera_frustum(
            "/camera",  # in place of one that was there
            fov=2 * float(np.arctan2(camera.height / 2, camera.intrinsics.fy)),
            aspect=camera.width / max(camera.height, 1),
            scale=CAMERA_SIZE_M,
            color=(70, 70, 80),
        )

    def show(self, frame: MeshFrame) -> None:
        """Shows the bodies of a frame in place of the previous ones."""
        names = _distinct(frame.ids)
        with self._server.atomic():
            for name in self._people.keys() - set(names):
                self._remove(name)
            each = zip(names, frame.joints, frame.vertices, frame.reprojection_error, strict=True)
            drawn = [i for i, person in enumerate(each) if self._draw(*person)]
            self._lay_ground(frame)
        self._write_status(frame, names, drawn)
        if drawn:
            self._recent.append(frame.joints[drawn].reshape(-1, 3))
            if not self._framings or time.monotonic() - self._framed_at >= FRAMING_PERIOD_S:
                self._frame_view()
        self._server.flush()

    def close(self) -> None:
        """Stops serving."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()

    def _build(self) -> None:
        scene, gui = self._server.scene, self._server.gui
        scene.set_up_direction("-y")
        # Explicit lights, because an environment map would have to be downloaded.
        scene.configure_environment_map(hdri=None)
        scene.configure_default_lights(enabled=False)
        scene.add_light_hemisphere("/light/sky", intensity=1.4, ground_color=(150, 140, 130))
        scene.add_light_directional("/light/sun", intensity=2.0, position=(-3.0, -6.0, -4.0))
        self._ground = scene.add_grid(
            "/ground",
            width=20.0,
            height=40.0,
            plane="xz",
            cell_size=0.5,
            section_size=1.0,
            cell_color=(228, 230, 234),
            section_color=(196, 200, 206),
            plane_color=(236, 238, 241),
            plane_opacity=0.8,
            position=(0.0, 1.0, 8.0),
        )
        gui.configure_theme(control_layout="floating", show_logo=False, show_share_button=False)
        self._status = gui.add_markdown("waiting for the first frame")
        names = ("mesh", "skeleton", "reprojection error", "ground")
        self._boxes = {name: gui.add_checkbox(name, True) for name in names}
        for box in self._boxes.values():
            box.on_update(lambda _: self._apply_choices())

    def _apply_choices(self) -> None:
        self._ground.visible = self._boxes["ground"].value
        for parts in list(self._people.values()):
            for part, handle in parts.items():
                handle.visible = self._boxes[BOXES[part]].value

    def _draw(
        self, name: str, joints: NDArray[np.float32], vertices: NDArray[np.float32], error: float
    ) -> bool:
        """Draws a person; False if its values are not finite."""
        if not (np.isfinite(joints).all() and np.isfinite(vertices).all()):
            self._remove(name)
            return False
        if name in self._people and ("mesh" in self._people[name]) != self._has_mesh(vertices):
            self._remove(name)
        if name not in self._people:
            self._people[name] = self._make(name, joints, vertices)
            self._apply_choices()
        parts = self._people[name]
        if "mesh" in parts:
            parts["mesh"].vertices = vertices
        if "bones" in parts:
            parts["bones"].points = self._bones(joints)
        parts["joints"].points = joints
        parts["label"].position = joints[15] - np.array([0.0, 0.32, 0.0], dtype=np.float32)
        parts["label"].text = f"{name}: {error:.1f} px"
        return True

    def _make(
        self, name: str, joints: NDArray[np.float32], vertices: NDArray[np.float32]
    ) -> dict[str, Any]:
        scene = self._server.scene
        colour = self._colours.setdefault(name, PALETTE[len(self._colours) % len(PALETTE)])
        dark = tuple(int(0.45 * c) for c in colour)
        # Ids come from a detector; a "/" in one would create a tree of scene nodes.
        root = f"/people/{list(self._colours).index(name)}"
        parts: dict[str, Any] = {}
        if self._has_mesh(vertices):
            parts["mesh"] = scene.add_mesh_simple(
                f"{root}/mesh", vertices, self._triangles, color=colour, opacity=0.8
            )
        if self._parents is not None:
            parts["bones"] = scene.add_line_segments(
                f"{root}/bones", self._bones(joints), colors=dark, thickness=0.018
            )
        parts["joints"] = scene.add_point_cloud(
            f"{root}/joints", joints, dark, point_size=0.025, point_shape="circle"
        )
        parts["label"] = scene.add_label(f"{root}/label", name, anchor="bottom-center")
        return parts

    def _has_mesh(self, vertices: NDArray[np.float32]) -> bool:
        """Whether the triangles match a mesh with these vertices."""
        return self._triangles is not None and int(self._triangles.max(initial=0)) < len(vertices)

    def _bones(self, joints: NDArray[np.float32]) -> NDArray[np.float32]:
        """(23, 2, 3) segments from each joint to its parent."""
        children = np.flatnonzero(self._parents >= 0)
        return np.stack([joints[children], joints[self._parents[children]]], axis=1)

    def _remove(self, name: str) -> None:
        for handle in self._people.pop(name, {}).values():
            handle.remove()

    def _lay_ground(self, frame: MeshFrame) -> None:
        """Puts the ground under the lowest recent point, ignoring a tenth as outliers."""
        points = frame.vertices if frame.vertices.size else frame.joints
        if points.size and np.isfinite(points).all():
            self._lowest.append(float(points[..., 1].max()))
            self._ground.position = (0.0, float(np.percentile(self._lowest, 90)), 8.0)

    def _frame_view(self) -> None:
        """Sets the initial view to show the camera and the people of the last frames; open pages
        are moved at the first frame, and again a second later."""
        self._framings, self._framed_at = self._framings + 1, time.monotonic()
        position, look_at = view_of(np.concatenate(self._recent))
        start = self._server.initial_camera
        clients = self._server.get_clients().values() if self._framings <= 2 else ()
        for camera in (start, *(client.camera for client in clients)):
            camera.position, camera.look_at, camera.fov = position, look_at, FIELD_OF_VIEW

    def _write_status(self, frame: MeshFrame, names: list[str], drawn: list[int]) -> None:
        self._arrivals.append(time.monotonic())
        spent = self._arrivals[-1] - self._arrivals[0]
        rate = (len(self._arrivals) - 1) / spent if spent > 0 else 0.0
        lines = [f"**{len(drawn)} in view**, {rate:.0f} frames/s", ""]
        if len(drawn) < len(names):
            lines += [f"{len(names) - len(drawn)} not drawn: values are not finite", ""]
        if frame.people_without_body:
            lines += [f"{frame.people_without_body} seen without a body", ""]
        if not frame.metric:
            lines += ["the field of view is a guess: distances are scale-free", ""]
        if drawn:
            lines += ["| person | error [px] | quality | distance [m] |", "|---|---|---|---|"]
        for i in drawn:
            deviation = frame.position_deviation[i]
            about = f" ± {deviation:.2f}" if np.isfinite(deviation) else ""
            lines.append(
                f"| {names[i]} | {frame.reprojection_error[i]:.1f} | {frame.quality[i]:.2f} "
                f"| {frame.joints[i, 0, 2]:.2f}{about} |"
            )
        self._status.content = "\n".join(lines)


def _distinct(ids: tuple[str, ...]) -> list[str]:
    """A unique name per person, even if the detector gives none or the same for all."""
    names: list[str] = []
    for i, name in enumerate(ids):
        names.append(name if name and name not in names else f"{name or 'person'}#{i}")
    return names


def view_of(points: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The viewpoint [m] and the point to look at, such that points (N, 3) and the camera at the
    origin are all in a picture of `ASPECT` or wider."""
    corners = CAMERA_SIZE_M * np.array([*product((-1, 1), (-1, 1), (0, 1))])
    everything = np.concatenate([points, corners])
    forward = -_FROM / np.linalg.norm(_FROM)
    right = np.cross(forward, [0.0, -1.0, 0.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    middle = (everything.min(axis=0) + everything.max(axis=0)) / 2
    for _ in range(_ROUNDS):
        off = everything - middle
        across = np.maximum(np.abs(off @ right) / ASPECT, np.abs(off @ down))
        distance = (across / (_FILLED * np.tan(FIELD_OF_VIEW / 2)) - off @ forward).max()
        # Near points are far from the picture's centre: look there, then move closer.
        depth = distance + off @ forward
        for axis in (right, down):
            seen = (off @ axis) / depth
            middle = middle + distance * (seen.min() + seen.max()) / 2 * axis
    return middle - distance * forward, middle
