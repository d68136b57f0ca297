# SPDX-License-Identifier: Apache-2.0
"""What colcon and pip install is complete, and contains nothing else."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from helpers_house import PACKAGES, TREE

MESSAGES = sorted(path.name for path in (TREE / "msg").glob("*.msg"))
LICENCES = ("LICENSE", "NOTICE", "THIRD_PARTY_NOTICES.md")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
PROGRAMS = ("mesh_node", "adapt_bag", "key2mesh", "safety_stop")


def carried(tree: Path) -> list[Path]:
    """The files of both packages that must travel, relative to ``tree``."""
    return sorted(
        path.relative_to(tree)
        for package in PACKAGES
        for path in (tree / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def python(program: str, path: Path) -> str:
    """Run a program with ``path`` as the only place of ours to import from; its output."""
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd="/", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def workspace() -> Path:
    """The install folder of this tree's messages and node, brought up to date."""
    pytest.importorskip("rclpy", reason="needs ROS: run it through tools/with-ros")
    subprocess.run([TREE / "tools" / "build-messages"], check=True)
    return Path(os.environ.get("KEY2MESH_WORKSPACE", TREE / ".ros")) / "install"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built from a copy of the tree: a build leaves files behind."""
    copy = tmp_path_factory.mktemp("source") / "key2mesh"
    parts = [*PACKAGES, "msg", "test", "pyproject.toml", "setup.py", "MANIFEST.in"]
    parts += ["README.md", *LICENCES]
    for part in parts:
        if (TREE / part).is_dir():
            shutil.copytree(TREE / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy2(TREE / part, copy / part)
    target = tmp_path_factory.mktemp("sdist")
    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(target)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    return next(target.glob("key2mesh-*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pip package, built from the source distribution."""
    target = tmp_path_factory.mktemp("wheel")
    pip = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target)]
    subprocess.run([*pip, str(sdist)], check=True)
    return next(target.glob("key2mesh-*.whl"))


def test_colcon_installs_node_launch_configuration_and_messages(workspace: Path) -> None:
    share = workspace / "share" / "key2mesh_ros"
    for name in PROGRAMS:
        program = workspace / "lib" / "key2mesh_ros" / name
        assert os.access(program, os.X_OK)
        assert program.read_text().startswith("#!/usr/bin/env python3\n")
    for folder in ("launch", "config"):
        expected = {path.name for path in (TREE / folder).iterdir() if path.is_file()}
        assert expected
        assert expected <= {path.name for path in (share / folder).iterdir()}
    for name in MESSAGES:
        assert (share / "msg" / name).exists()


def test_colcon_installs_both_packages_whole(workspace: Path) -> None:
    site = next(workspace.glob("lib/python3.*/site-packages"))
    source = workspace.parent / "src" / "key2mesh_ros"  # what was built from, a copy of the tree
    paths = carried(source)
    assert {"mesh_node.py", "estimator.py"} <= {path.name for path in paths}
    for path in paths:
        assert (site / path).read_bytes() == (source / path).read_bytes()


def test_the_colcon_install_works_without_the_source_tree(workspace: Path) -> None:
    site = next(workspace.glob("lib/python3.*/site-packages"))
    program = (
        "import key2mesh_ros.mesh_node as node, key2mesh_ros.msg as msg\n"
        "import key2mesh_core.model.estimator as core\n"
        "from key2mesh_core.recordings.bags import message_definitions\n"
        "msg.PersonKeypointsArray(); msg.BodyTopology()\n"
        "print(node.__file__, msg.__file__, core.__file__, len(message_definitions()))"
    )
    *files, count = python(program, site).split()
    assert all(Path(file).is_relative_to(site) for file in files)
    assert int(count) == len(MESSAGES)


def test_the_wheel_holds_both_packages_the_messages_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {str(path) for path in carried(TREE)} <= names
    assert {f"key2mesh_core/assets/msg/{name}" for name in MESSAGES} <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    for licence in LICENCES:
        assert any(name.endswith(f".dist-info/licenses/{licence}") for name in names)


def test_the_wheel_asks_for_little_and_brings_the_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = archive.read(info).decode()
    required = re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert set(required) == {"array-api-compat", "numpy", "onnxruntime", "scipy", "tyro"}
    entry_points = archive.read(info.replace("METADATA", "entry_points.txt")).decode()
    assert "key2mesh = key2mesh_core.cli.main:main" in entry_points


def test_the_wheel_works_in_a_bare_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    site = next(environment.glob("lib/python3.*/site-packages"))
    # What it depends on is at hand in the tests' environment, behind its own packages.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run(
        [*PIP, "--python", str(environment / "bin" / "python"), "install", "--no-deps",
         "--no-index", str(wheel)], check=True,
    )  # fmt: skip
    for words in ([], ["-m", "key2mesh_core"]):
        program = environment / "bin" / ("python" if words else "key2mesh")
        done = subprocess.run(
            [program, *words, "body", "info", "default"],
            cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "6890" in done.stdout.replace(",", "")
    code = (
        "import sys, key2mesh_core.model.estimator as core\n"
        "from key2mesh_core.model.bundle import load_bundle\n"
        "from key2mesh_core.recordings.bags import message_definitions\n"
        "load_bundle()\n"
        "assert 'torch' not in sys.modules\n"
        "print(core.__file__, len(message_definitions()))"
    )
    done = subprocess.run(
        [environment / "bin" / "python", "-c", code], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file, count = done.stdout.split()
    assert Path(file).is_relative_to(site)
    assert int(count) == len(MESSAGES)
