# SPDX-License-Identifier: Apache-2.0
"""The text of our ROS messages, for reading and writing bags without built messages."""

from __future__ import annotations

from pathlib import Path

from key2mesh_core.errors import Key2MeshError


def message_definitions() -> dict[str, str]:
    """The text of our own message files by ROS type name ("key2mesh_ros/msg/BodyMesh"), in a
    source tree, a pip installation and a colcon workspace alike.

    Raises:
        Key2MeshError: the installation has no message files.
    """
    package = Path(__file__).parent.parent
    # Installed packages have a copy made by the build (setup.py, CMakeLists.txt); a source tree has
    # the originals next to the package.
    for folder in (package / "assets" / "msg", package.parent / "msg"):
        files = sorted(folder.glob("*.msg"))
        if files:
            return {f"key2mesh_ros/msg/{file.stem}": file.read_text() for file in files}
    raise Key2MeshError(
        f"no message definitions in {package / 'assets' / 'msg'}: install key2mesh again"
    )
