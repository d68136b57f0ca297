# SPDX-License-Identifier: Apache-2.0
"""Stores built engines in the user's cache folder.

An engine file is code that runs on the GPU, and TensorRT trusts it. Engines are therefore only
written to and read from this folder: no bundle, bag, parameter or topic can name one. A file's name
contains a hash of everything that it was built from (`tensorrt_build.Plan.file`). Before the
library gets a file, its owner, its permissions and a checksum of its name and content are checked.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from key2mesh_core import io
from key2mesh_core.errors import EngineError


class EngineCache:
    """A folder of built engines that only its user can read or write.

    Args:
        folder: by default ~/.cache/key2mesh/engines (see `io.cache_folder`); created at the first
            write.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = io.cache_folder() / "engines" if folder is None else folder

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it does not exist.

        Raises:
            EngineError: the file is damaged, belongs to another user, or is writable by others.
        """
        path = self.folder / name
        try:
            # A link could lead to a file that somebody else chose.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as stream:
                _check_private(self.folder, os.stat(self.folder))
                _check_private(path, os.fstat(stream.fileno()))
                found, content = stream.read(32), stream.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refused(path, f"cannot be read ({error.strerror})") from error
        if found != _sum(name, content):
            raise _refused(path, "is damaged, or was built for something else")
        return content

    def write(self, name: str, content: bytes) -> None:
        """Stores a file atomically.

        Raises:
            EngineError: the folder cannot be created or written, or is accessible to others.
        """
        make_private(self.folder)
        try:
            with io.atomic_write(self.folder / name, mode=0o600) as unfinished:
                unfinished.write_bytes(_sum(name, content) + content)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def remove(self, name: str) -> None:
        """Deletes a file, if it exists."""
        (self.folder / name).unlink(missing_ok=True)


def make_private(folder: Path) -> None:
    """Creates a folder; raises EngineError if it cannot be created, or is writable by others."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    _check_private(folder, folder.stat())


def _sum(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + content).digest()


def _check_private(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.getuid():
        raise _refused(path, f"belongs to user {status.st_uid}, not to {os.getuid()}")
    if status.st_mode & 0o022:
        raise _refused(path, f"can be written by others (mode {status.st_mode & 0o7777:04o})")


def _refused(path: Path, reason: str) -> EngineError:
    return EngineError(
        f"{path}: {reason}, so it is not used; remove it and run `key2mesh build-engine` again"
    )


def _unwritable(path: Path, error: OSError) -> EngineError:
    return EngineError(
        f"{path}: cannot be written ({error.strerror}); XDG_CACHE_HOME names another folder"
    )
