# SPDX-License-Identifier: Apache-2.0
"""Make the ROS 2 wheels of a virtual environment usable for building messages.

Run it with the environment's own interpreter after every install:

    .venv/bin/python tools/fix_ros_wheels.py

The wheels were built elsewhere, which shows in two places:

* The exported CMake files of every message package name the Python and numpy
  headers of the machine that built the wheels. CMake refuses to use a target
  whose include folders do not exist, so they are pointed at this environment's.
* A start-up hook (a ``.pth`` file) re-executes every Python program once, with
  LD_LIBRARY_PATH set. It doubles the start-up time of programs that have nothing
  to do with ROS and surprises those that watch their own process. It is removed:
  ``tools/with-ros`` sets the same variable before the first instruction.

Running it again changes nothing.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

START_UP_HOOK = "ros_wheels_bootstrapper.pth"
# The wheels' build machines keep their interpreters in /opt/python/cp311-cp311 and the like.
FOREIGN_PYTHON_HEADERS = re.compile(r"/opt/python/cp\d+-cp\d+/include/python\d+\.\d+")
FOREIGN_NUMPY_HEADERS = re.compile(
    r"/opt/python/cp\d+-cp\d+/lib/python\d+\.\d+/site-packages/numpy/_?core/include"
)


def fix_cmake_files(prefix: Path, python_headers: str, numpy_headers: str) -> list[Path]:
    """Point exported CMake files under ``prefix``/share at this environment's headers.

    Returns the files that were changed.
    """
    changed = []
    for path in sorted((prefix / "share").glob("*/cmake/*.cmake")):
        before = path.read_text()
        after = FOREIGN_NUMPY_HEADERS.sub(lambda _: numpy_headers, before)
        after = FOREIGN_PYTHON_HEADERS.sub(lambda _: python_headers, after)
        if after != before:
            path.write_text(after)
            changed.append(path)
    return changed


def remove_start_up_hook(site_packages: Path) -> bool:
    """Remove the wheels' re-executing ``.pth`` file; False when it was not there."""
    hook = site_packages / START_UP_HOOK
    present = hook.exists()
    hook.unlink(missing_ok=True)
    return present


def main() -> int:
    """Repair the environment of the running interpreter."""
    if sys.prefix == sys.base_prefix:
        print(f"{sys.executable} is not in a virtual environment: not touching it.")
        return 1
    python_headers = Path(sysconfig.get_path("include"))
    if not (python_headers / "Python.h").exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        print(
            f"{python_headers}/Python.h is missing; message packages are C extensions. "
            f"Install Python's headers (Debian, Ubuntu: apt install python{version}-dev)."
        )
        return 1
    import numpy

    # From the start-up hook this run may itself be the second execution: harmless.
    fix_cmake_files(Path(sys.prefix), str(python_headers), numpy.get_include())
    remove_start_up_hook(Path(sysconfig.get_path("purelib")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
