# SPDX-License-Identifier: Apache-2.0
"""The files that Key2Mesh carries, found alike in a source tree, a wheel and a colcon install."""

from __future__ import annotations

from pathlib import Path

from key2mesh_core.errors import Key2MeshError

ROS_PACKAGE = "key2mesh_ros"


def asset_path(*parts: str) -> Path:
    """Path of a carried file or folder, for example ``asset_path("body", "default.npz")``.

    It is not checked that the path exists: whoever opens it knows what its absence means.
    """
    return Path(__file__).parent.joinpath(*parts)


def message_definitions() -> dict[str, str]:
    """The text of this package's own message files, by ROS type name.

    Returns e.g. ``{"key2mesh_ros/msg/BodyMesh": "string id\\n...", ...}``: what a bag
    reader or writer needs where the messages were never built.

    Raises:
        Key2MeshError: the installation carries no message files.
    """
    # Installed packages carry a copy made by the build (setup.py, CMakeLists.txt); a source
    # tree has the originals beside the package.
    for folder in (asset_path("msg"), Path(__file__).parents[2] / "msg"):
        files = sorted(folder.glob("*.msg"))
        if files:
            return {f"{ROS_PACKAGE}/msg/{file.stem}": file.read_text() for file in files}
    raise Key2MeshError(
        f"no message definitions beside {Path(__file__).parent}: the installation of key2mesh "
        f"is incomplete; install it again, or run from its source tree"
    )
