# SPDX-License-Identifier: Apache-2.0
"""Configures the middleware for large messages, unless the user has settings."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

PROFILE = Path(__file__).with_name("fastdds.xml")

OLD_NAME, NAME = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"
"""The variable that names the profile: Jazzy's Fast DDS 2.14 reads only the first; Fast DDS 3
(Kilted, Lyrical) reads the second, and Kilted warns about the first."""

# The user's own settings: one of these variables, or a Fast DDS file in the working directory.
_DECISIONS = (OLD_NAME, NAME, "FASTDDS_BUILTIN_TRANSPORTS")
_FILES_IN_FOLDER = ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml")


def make_room_for_meshes(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Make Fast DDS, if it is the middleware, send messages of ten people through shared memory.

    Call this before rclpy.init(), and only in the process that publishes meshes. Returns whether
    the variables were set; other middlewares do not read them.
    """
    decided = any(name in environment for name in _DECISIONS)
    if decided or any(Path(name).exists() for name in _FILES_IN_FOLDER):
        return False
    names = {"jazzy": [OLD_NAME], "": [OLD_NAME, NAME]}  # by distribution, if known
    for name in names.get(environment.get("ROS_DISTRO", ""), [NAME]):
        environment[name] = str(PROFILE)
    return True
