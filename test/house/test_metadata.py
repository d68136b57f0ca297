# SPDX-License-Identifier: Apache-2.0
"""Files that state the same thing agree."""

import re
import tomllib
import xml.etree.ElementTree as ElementTree

from helpers_house import TREE

import key2mesh_core

PROJECT = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
LOCKS = [TREE / "requirements" / f"{name}.txt" for name in ("demo", "test")]


def test_every_file_states_the_same_version():
    version = PROJECT["version"]
    assert ElementTree.parse(TREE / "package.xml").findtext("version") == version
    assert key2mesh_core.__version__ == version
    newest = re.search(r"^## (\S+)", (TREE / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == version


def test_the_locks_hold_what_the_extras_name_with_hashes_and_no_address():
    locked = {}
    for path in LOCKS:
        text = path.read_text()
        assert "://" not in text
        for entry in text.replace("\\\n", "").splitlines():
            package = re.match(r"([a-z0-9.-]+)==(\S+) .*--hash=sha256:[0-9a-f]{64}", entry)
            assert package, f"{path.name}: {entry[:80]}"
            assert locked.setdefault(package[1], package[2]) == package[2], entry[:80]
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *extras["train"], *extras["view"], *extras["test"]]
    names = {re.split(r"[<>=~! \[]", requirement)[0] for requirement in asked}
    assert names - locked.keys() == {"torch"}  # any build of it will do: see requirements/torch.txt
