# SPDX-License-Identifier: Apache-2.0
"""Where built engines are kept: in the user's own cache folder.

An engine file is code that runs on the GPU, and TensorRT trusts it. So it is only ever built here
and read from here: no bundle, bag, parameter or topic can name one. A file's name has a hash of all
that it was built from (`tensorrt_build.Plan.file`). What is found under the right name is still
checked before the library sees it: who owns it, who else may write it, and a sum of its name and
content.
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
        folder: by default ~/.cache/key2mesh/engines (see `io.cache_folder`); made when something
            is written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = io.cache_folder() / "engines" if folder is None else folder

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it is not there.

        Raises:
            EngineError: the file is damaged, another's, or somebody else might have written it.
        """
        path = self.folder / name
        try:
            # A link could lead to a file of somebody else's choosing.
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
        """Keeps a file; it is there whole or not at all.

        Raises:
            EngineError: the folder cannot be made or written, or is not the user's alone.
        """
        make_private(self.folder)
        try:
            with io.atomic_write(self.folder / name, mode=0o600) as unfinished:
                unfinished.write_bytes(_sum(name, content) + content)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def remove(self, name: str) -> None:
        """Forgets a file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)


def make_private(folder: Path) -> None:
    """Makes a folder; raises EngineError if it cannot be made, or others may write to it."""
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
