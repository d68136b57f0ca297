# SPDX-License-Identifier: Apache-2.0
"""Atomic file writes, and the JSON reader for untrusted files."""

import os
import resource
import subprocess
import sys

import pytest

from key2mesh_core.errors import TargetError
from key2mesh_core.io import atomic_write, read_json, write_text


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "made" / "file.txt"
    write_text(path, "old")

    def interrupted() -> None:
        with atomic_write(path) as unfinished:
            unfinished.write_text("half of the ne")
            raise failure

    with pytest.raises((KeyboardInterrupt, OSError)):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file.txt"]


def test_a_full_disk_leaves_nothing(tmp_path):
    """A limit on the size of files fails like a full disk, and needs no other file system."""
    program = (
        "import sys; from key2mesh_core.io import write_text\n"
        "try: write_text(sys.argv[1], 'x' * 5000)\n"
        "except OSError: sys.exit(3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "big.txt")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)),
    )
    assert done.returncode == 3
    assert os.listdir(tmp_path) == []


def test_the_new_file_replaces_the_old_one_and_others_may_read_it(tmp_path):
    path = tmp_path / "file.png"
    write_text(path, "old")
    with atomic_write(path) as unfinished:
        assert unfinished.suffix == ".png"
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"1" * 5000, None])
def test_what_is_not_json_is_refused_by_file(tmp_path, content):
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TargetError, match=r"file\.json"):
        read_json(path, 4999, TargetError)
    path.write_text('{"a": [1, null]}')
    assert read_json(path, 16, TargetError) == {"a": [1, None]}
