# SPDX-License-Identifier: Apache-2.0
"""The node as it is, which besides writes a byte to a pipe behind each message it has dealt with.

Its subscriptions hold the newest message alone, so whoever wants to know that every message was
read has to wait for each. The pipe's number is in the environment.

    KEY2MESH_ACKNOWLEDGE=7 python -m benchmarks.reliability.acknowledging_node --ros-args ...
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

VARIABLE = "KEY2MESH_ACKNOWLEDGE"


def _telling(kind: type, name: str, descriptor: int) -> None:
    """Have a callback of a class tell when it is through, whatever it raises."""
    work = getattr(kind, name)

    @functools.wraps(work)  # rclpy looks at its parameters
    def told(*arguments: Any) -> Any:
        try:
            return work(*arguments)
        finally:
            os.write(descriptor, b".")

    setattr(kind, name, told)


def main() -> int:
    """Runs the node until a signal; its exit status."""
    descriptor = int(os.environ[VARIABLE])
    from key2mesh_ros.hri import Gatherer
    from key2mesh_ros.mesh_node import MeshNode, main

    if "input_type:=hri" in sys.argv:  # whose frames are made of several messages
        _telling(Gatherer, "_on_ids", descriptor)
        _telling(Gatherer, "_on_skeleton", descriptor)
    else:
        _telling(MeshNode, "_on_keypoints", descriptor)
    _telling(MeshNode, "_on_camera_info", descriptor)
    return main()


if __name__ == "__main__":
    sys.exit(main())
