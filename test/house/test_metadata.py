# SPDX-License-Identifier: Apache-2.0
"""Files that state the same thing agree, and the locks are locks."""

import re
import tomllib
import xml.etree.ElementTree as ElementTree

import pytest
from helpers_house import TREE

import key2mesh_core

PROJECT = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
MANIFEST = ElementTree.parse(TREE / "package.xml").getroot()
LOCKS = ["ros", "demo", "test"]
SOURCES = sorted(
    path
    for folder in ("key2mesh_core", "key2mesh_ros", "test", "tools", "demo", "benchmarks", "launch")
    for path in (TREE / folder).rglob("*.py")
)


def lock_entries(name: str) -> dict[str, list[str]]:
    """Hashes by "package==version" of one requirements file."""
    text = (TREE / "requirements" / f"{name}.txt").read_text()
    lines = text.replace("\\\n", " ").splitlines()
    entries = [line.split() for line in lines if line and not line.startswith("#")]
    return {
        entry[0]: re.findall(r"--hash=sha256:([0-9a-f]{64})\b", str(entry)) for entry in entries
    }


def test_every_file_states_the_same_version() -> None:
    version = PROJECT["version"]
    assert MANIFEST.findtext("version") == version
    assert key2mesh_core.__version__ == version
    newest = re.search(r"^## (\S+)", (TREE / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == version


def test_the_ros_package_does_not_depend_on_wheels() -> None:
    names = {element.text for element in MANIFEST if element.tag.endswith("depend")}
    assert {"rclpy", "std_msgs", "geometry_msgs", "launch_ros"} <= names
    assert not [name for name in names if "jazzy" in name or "colcon" in name or "pip" in name]


def test_every_message_file_is_built() -> None:
    files = {path.name for path in (TREE / "msg").glob("*.msg")}
    listed = set(re.findall(r'"msg/(\w+\.msg)"', (TREE / "CMakeLists.txt").read_text()))
    assert listed == files


@pytest.mark.parametrize("name", LOCKS)
def test_locked_requirements_are_exact_and_hashed(name: str) -> None:
    entries = lock_entries(name)
    assert len(entries) > 10
    for package, hashes in entries.items():
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.!+]+", package), package
        assert hashes, f"{package} has no hash"


@pytest.mark.parametrize("file", sorted((TREE / "requirements").iterdir()), ids=lambda f: f.name)
def test_requirements_name_no_registry(file) -> None:
    text = file.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(index|extra-index|find-links|trusted)", text, re.MULTILINE)


def test_no_lock_repeats_or_contradicts_another() -> None:
    names = [entry.split("==")[0] for lock in LOCKS for entry in lock_entries(lock)]
    assert len(names) == len(set(names))
    assert "torch" not in names


def test_what_users_install_is_in_the_locks() -> None:
    locked = {entry.split("==")[0] for lock in LOCKS for entry in lock_entries(lock)}
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *extras["train"], *extras["view"], *extras["test"]]
    names = {re.split(r"[<>=~! ]", requirement)[0] for requirement in asked}
    assert names - locked == {"torch"}


def test_the_command_and_the_extras_exist() -> None:
    assert PROJECT["scripts"] == {"key2mesh": "key2mesh_core.cli.main:main"}
    assert set(PROJECT["optional-dependencies"]) >= {"train", "tensorrt", "ros", "view", "test"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(TREE)))
def test_every_source_file_states_its_licence(path) -> None:
    head = path.read_text().splitlines()[:2]
    assert "# SPDX-License-Identifier: Apache-2.0" in head
