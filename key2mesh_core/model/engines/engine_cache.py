# SPDX-License-Identifier: Apache-2.0
"""Where built engines are kept: in the user's own cache folder, each under what it was built from.

An engine file is code that runs on the GPU, and TensorRT trusts it. So it is only ever built here
and read from here: no bundle, bag, parameter or topic can name one. A file's name is a hash of all
that it depends on. What is found under the right name is still checked before the library sees it:
who owns it, who else may write it, and a sum of its content and its key.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from key2mesh_core import io
from key2mesh_core.errors import EngineError

RECIPE = 2
"""Raised when this version builds engines differently from the one before."""


@dataclass(frozen=True)
class EngineKey:
    """All that a built engine depends on.

    Attributes:
        graph: the graph's file name in the bundle.
        graph_sha256: of its content, as the bundle holds it.
        library: "tensorrt" or "tensorrt_rtx".
        version: of that library.
        gpu: name and compute capability, or "none" for a trial without one.
        precision: "fp32" or "fp16".
        persons: least, usual and most persons of a run.
        part: "engine", or "kernels" for what TensorRT for RTX compiled when it first ran it.
        recipe: how it was built.
    """

    graph: str
    graph_sha256: str
    library: str
    version: str
    gpu: str
    precision: str
    persons: tuple[int, int, int]
    part: str = "engine"
    recipe: int = RECIPE

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class EngineCache:
    """A folder of built engines that only its user can read or write.

    Args:
        folder: by default ~/.cache/key2mesh/engines (see `io.cache_folder`); made when something
            is written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = io.cache_folder() / "engines" if folder is None else folder

    def path(self, key: EngineKey) -> Path:
        start = f"{Path(key.graph).stem}-{key.precision}"
        return self.folder / f"{start}-{key.digest[:24]}.{key.part}"

    def read(self, key: EngineKey) -> bytes | None:
        """The engine of this key; None if there is none yet.

        Raises:
            EngineError: the file is damaged, another's, or somebody else might have written it.
        """
        path = self.path(key)
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
        if found != _sum(key, content):
            raise _refused(path, "is damaged, or was built for something else")
        return content

    def write(self, key: EngineKey, content: bytes) -> Path:
        """Keeps an engine; it is there whole or not at all.

        Raises:
            EngineError: the folder cannot be made or written, or is not the user's alone.
        """
        path = self.path(key)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(self.folder, os.stat(self.folder))
            with io.atomic_write(path, mode=0o600) as unfinished:
                unfinished.write_bytes(_sum(key, content) + content)
        except OSError as error:
            raise EngineError(
                f"{path}: cannot be written ({error.strerror}); XDG_CACHE_HOME names another folder"
            ) from error
        return path

    def remove(self, key: EngineKey) -> None:
        """Forgets an engine, if it is there."""
        self.path(key).unlink(missing_ok=True)


def _sum(key: EngineKey, content: bytes) -> bytes:
    return hashlib.sha256(key.digest.encode() + content).digest()


def _check_private(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.getuid():
        raise _refused(path, f"belongs to user {status.st_uid}, not to {os.getuid()}")
    if status.st_mode & 0o022:
        raise _refused(path, f"can be written by others (mode {status.st_mode & 0o7777:04o})")


def _refused(path: Path, reason: str) -> EngineError:
    return EngineError(
        f"{path}: {reason}, so it is not used; remove it and run `key2mesh build-engine` again"
    )
