# SPDX-License-Identifier: Apache-2.0
"""Pin every package that `make` installs to one version and to the hashes of its files.

    make lock            # or: python tools/lock_requirements.py, with `uv` on the path

Reads requirements/*.in and writes requirements/{ros,demo,test}.txt. Each holds only what the
one before it lacks: demo needs ros, test needs both. A lock holds for Python 3.11 and 3.12
on x86-64 Linux: of each package it lists the wheels for those two, and the source archive
only where there is no such wheel.

torch is left out: see requirements/torch.txt.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"
GROUPS = ("ros", "demo", "test")
PYTHONS = ((3, 11), (3, 12))
# The newest C library that the wheels may ask for: Ubuntu 20.04 has 2.31, Debian 12 has 2.36.
NEWEST_MANYLINUX = 31
# The environment marker that is true wherever the lock is used at all.
EVERYWHERE = "python_full_version < '3.13' and platform_machine == 'x86_64'"
HEADER = "# Made by `make lock` from {name}.in{others}; do not edit.\n"


def installable_tags(python: tuple[int, int]) -> set[Any]:
    """The wheel tags that a CPython of this version accepts on x86-64 Linux."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(5, NEWEST_MANYLINUX + 1)]
    platforms += ["manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"]
    platforms += ["linux_x86_64"]
    interpreter = f"cp{python[0]}{python[1]}"
    tags = set(cpython_tags(python, platforms=platforms))
    return tags | set(compatible_tags(python, interpreter, platforms))


def wanted_hashes(package: dict[str, Any]) -> list[str]:
    """The SHA-256 of each file of a locked package that one of ``PYTHONS`` would install."""
    hashes = set()
    for python in PYTHONS:
        tags = installable_tags(python)
        wheels = [
            wheel
            for wheel in package.get("wheels", [])
            if tags & parse_wheel_filename(file_name(wheel))[3]
        ]
        files = wheels or [package["sdist"]]
        hashes |= {file["hashes"]["sha256"] for file in files}
    return sorted(hashes)


def file_name(file: dict[str, Any]) -> str:
    """The name of a locked file; the lock may give only its address."""
    return file.get("name") or file["url"].rsplit("/", 1)[-1]


def resolve(group: str) -> list[dict[str, Any]]:
    """The packages that requirements/GROUP.in needs, of the same versions on every Python."""
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "pylock.toml"
        overrides = Path(folder) / "overrides.txt"
        # tensorrt-stubs names the library it describes, which is not on PyPI (only a stub of it).
        left_out = ("torch", "tensorrt", "tensorrt-cu12-bindings")
        overrides.write_text("".join(f"{name}; sys_platform == 'never'\n" for name in left_out))
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
        command += ["--fork-strategy", "fewest", "--format", "pylock.toml"]
        command += ["--override", str(overrides), "--output-file", str(lock)]
        command.append(str(REQUIREMENTS / f"{group}.in"))
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return tomllib.loads(lock.read_text())["packages"]


def requirement(package: dict[str, Any]) -> str:
    """One entry of a requirements file."""
    marker = package.get("marker", "")
    if EVERYWHERE in marker and " or " not in marker and "python_full_version ==" not in marker:
        marker = ""
    line = f"{package['name']}=={package['version']}" + (f" ; {marker}" if marker else "")
    return " \\\n    ".join([line] + [f"--hash=sha256:{value}" for value in wanted_hashes(package)])


def main() -> int:
    """Write the three locks."""
    done: dict[str, str] = {}
    for index, group in enumerate(GROUPS):
        resolved = resolve(group)
        for package in resolved:
            if done.get(package["name"], package["version"]) != package["version"]:
                print(
                    f"{group}.in wants {package['name']} {package['version']}, but an earlier "
                    f"lock has {done[package['name']]}: constrain it in ros.in or demo.in"
                )
                return 1
        packages = [package for package in resolved if package["name"] not in done]
        done |= {package["name"]: package["version"] for package in packages}
        earlier = " and ".join(f"{name}.txt" for name in GROUPS[:index])
        others = f", without what {earlier} has" if earlier else ""
        entries = "\n".join(requirement(package) for package in packages)
        target = REQUIREMENTS / f"{group}.txt"
        target.write_text(HEADER.format(name=group, others=others) + entries + "\n")
        print(f"{target.name}: {len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
