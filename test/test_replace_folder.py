# SPDX-License-Identifier: Apache-2.0
"""A folder is replaced whole; whoever is killed between the two renames loses nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from key2mesh_core.io import replace_folder, restore, standing

_KILLED = """
import os, signal, sys
from pathlib import Path
from key2mesh_core.io import replace_folder

def rename_and_die(self, target, rename=Path.rename):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)

Path.rename = rename_and_die
replace_folder(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder whose replacement was killed after the first rename."""
    target = folder(tmp_path / "model", "old")
    command = [sys.executable, "-c", _KILLED, str(target), str(folder(tmp_path / "new", "new"))]
    assert subprocess.run(command, cwd=Path(__file__).parents[2]).returncode == -9
    assert not target.exists()
    return target


def test_a_folder_is_replaced_and_nothing_else_stays(tmp_path):
    target = tmp_path / "model"
    replace_folder(target, folder(tmp_path / "new", "first"))
    replace_folder(target, folder(tmp_path / "new", "second"))
    assert (standing(target) / "file").read_text() == "second"
    assert list(tmp_path.iterdir()) == [target]


def test_after_a_kill_between_the_renames_the_old_one_is_read(killed):
    assert (standing(killed) / "file").read_text() == "old"


def test_after_a_kill_between_the_renames_the_next_writer_puts_it_back(killed):
    restore(killed)
    assert (killed / "file").read_text() == "old"
    restore(killed)
    assert (killed / "file").read_text() == "old"


def test_after_a_kill_between_the_renames_it_can_be_replaced(killed):
    replace_folder(killed, killed.with_name("new"))
    assert (killed / "file").read_text() == "new"
    assert [path.name for path in killed.parent.iterdir()] == ["model"]
