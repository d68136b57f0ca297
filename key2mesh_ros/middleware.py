# SPDX-License-Identifier: Apache-2.0
"""Settings of the middleware that large messages need, unless the user has made their own."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

PROFILE = Path(__file__).with_name("fastdds.xml")

# Whoever sets one of these has decided; so has who keeps Fast DDS's own file in the folder.
_DECISIONS = (
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTDDS_BUILTIN_TRANSPORTS",
)
_FILE_IN_FOLDER = "DEFAULT_FASTRTPS_PROFILES.xml"


def make_room_for_meshes(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Have Fast DDS, if that is what is used, send messages of ten people through shared memory.

    To be called before rclpy.init(); for the process that publishes meshes alone. Other
    middlewares do not look at the variable.

    Returns:
        Whether the setting was made.
    """
    if any(name in environment for name in _DECISIONS) or Path(_FILE_IN_FOLDER).exists():
        return False
    environment["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(PROFILE)
    return True
