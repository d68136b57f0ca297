# SPDX-License-Identifier: Apache-2.0
"""Interface packages that are not among the ROS wheels, built for tests in a workspace of theirs.

yolo_msgs, hri_msgs and zed_msgs have the fields that those projects define, tf2_msgs what TF
needs. The workspace lies beside the one of our own messages and is built again when a definition
changes: half a minute the first time, nothing afterwards.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from helpers_detectors import DEFINITIONS

TOP = Path(__file__).parents[1]
WORKSPACE = Path(os.environ.get("KEY2MESH_WORKSPACE", TOP / ".ros")) / "test_interfaces"
PYTHON = Path(f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages")

_OTHERS = {
    # Bags of either length are read; today's package has exactly 18.
    "hri_msgs/msg/Skeleton2D": (
        "std_msgs/Header header\nhri_msgs/NormalizedPointOfInterest2D[18] skeleton"
    ),
    "hri_msgs/msg/IdsList": "std_msgs/Header header\nstring[] ids",
    "tf2_msgs/msg/TFMessage": "geometry_msgs/TransformStamped[] transforms",
}

_CMAKE = """cmake_minimum_required(VERSION 3.8)
project({package})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
find_package(std_msgs REQUIRED)
find_package(geometry_msgs REQUIRED)
rosidl_generate_interfaces({package} {files} DEPENDENCIES std_msgs geometry_msgs)
# All of a library's C++ at once: a third of the time.
foreach(kind typesupport_cpp typesupport_c typesupport_introspection_cpp
    typesupport_fastrtps_cpp typesupport_fastrtps_c)
  if(TARGET {package}__rosidl_${{kind}})
    set_target_properties({package}__rosidl_${{kind}} PROPERTIES
      UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
  endif()
endforeach()
ament_package()
"""

_PACKAGE = """<?xml version="1.0"?>
<package format="3">
  <name>{package}</name>
  <version>0.0.1</version>
  <description>The fields of {package}, for tests.</description>
  <maintainer email="key2mesh@example.org">The Key2Mesh maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>std_msgs</depend>
  <depend>geometry_msgs</depend>
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""


def _write(source: Path) -> str:
    """The packages' files under `source`; a sum of all that is in them."""
    packages: dict[str, dict[str, str]] = {}
    for name, text in (DEFINITIONS | _OTHERS).items():
        package, _, message = name.split("/")
        packages.setdefault(package, {})[message] = text.replace(f"{package}/", "") + "\n"
    total = hashlib.sha256(f"{TOP}{sys.executable}".encode())
    for package, messages in packages.items():
        folder = source / package
        (folder / "msg").mkdir(parents=True)
        files = {f"msg/{name}.msg": text for name, text in messages.items()}
        quoted = " ".join(f'"{name}"' for name in files)
        files["CMakeLists.txt"] = _CMAKE.format(package=package, files=quoted)
        files["package.xml"] = _PACKAGE.format(package=package)
        for name, text in files.items():
            (folder / name).write_text(text)
            total.update(f"{name}\n{text}".encode())
    return total.hexdigest()


def _build(source: Path) -> None:
    install = WORKSPACE / "install"
    venv = Path(sys.prefix)
    log = WORKSPACE / "build.log"
    command = [
        *(str(TOP / "tools" / "with-ros"), "colcon", "--log-base", str(WORKSPACE / "log")),
        *("build", "--base-paths", str(source), "--merge-install", "--executor", "sequential"),
        *("--build-base", str(WORKSPACE / "build"), "--install-base", str(install)),
        *("--cmake-args", "-DBUILD_TESTING=OFF", "-DCMAKE_CXX_FLAGS=-O0", "-DCMAKE_C_FLAGS=-O0"),
        # So that a process which runs already can load them.
        *(f"-DCMAKE_INSTALL_RPATH={install / 'lib'}", f"-DPython3_EXECUTABLE={venv}/bin/python"),
        *(f"-DPython3_ROOT_DIR={venv}", "-DPython3_FIND_STRATEGY=LOCATION"),
        "-DPython3_FIND_VIRTUALENV=ONLY",
    ]
    with log.open("w") as stream:
        done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, cwd=WORKSPACE)
    assert done.returncode == 0, f"building the interfaces failed:\n{log.read_text()[-4000:]}"


def built() -> Path:
    """The packages' installation, built if need be."""
    WORKSPACE.mkdir(parents=True, exist_ok=True)
    with (WORKSPACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs at once would trip over each other
        shutil.rmtree(WORKSPACE / "src", ignore_errors=True)
        total, done = _write(WORKSPACE / "src"), WORKSPACE / "built"
        if not done.exists() or done.read_text() != total:
            for folder in ("build", "install"):
                shutil.rmtree(WORKSPACE / folder, ignore_errors=True)
            _build(WORKSPACE / "src")
            done.write_text(total)
    return WORKSPACE / "install"


def use(install: Path) -> None:
    """Make the packages importable, here and in processes started from here."""
    python = str(install / PYTHON)
    if python not in sys.path:
        sys.path.append(python)
        for name, path in (
            ("PYTHONPATH", python),
            ("LD_LIBRARY_PATH", install / "lib"),
            ("AMENT_PREFIX_PATH", install),
        ):
            os.environ[name] = f"{os.environ.get(name, '')}:{path}"
        # The middleware asks for these by their bare names, and LD_LIBRARY_PATH counts only at a
        # process' start: what is loaded already is found.
        for library in sorted((install / "lib").glob("*__rosidl_typesupport_*_c.so")):
            ctypes.CDLL(str(library))


if __name__ == "__main__":
    built()
