# SPDX-License-Identifier: Apache-2.0
"""Where built engines are kept: in the user's own cache folder, each under what it was built from.

An engine file is code that runs on the GPU, and TensorRT trusts it. So it is only ever built here
and read from here: no bundle, bag, parameter or topic can name one. A file's name is a hash of all
that it depends on; when the graph, the library, the GPU or the way engines are built changes,
the name changes and the engine is built again. What is found under the right name is
still checked before the library sees it: who owns it, who else may write it, whether it says of
itself what was asked for, and its sum.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from key2mesh_core import io
from key2mesh_core.errors import EngineError
from key2mesh_core.io import atomic_write

_MAGIC = b"key2mesh engine 1\n"
_HEADER_LIMIT = 1 << 16
RECIPE = 1
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
    def file_name(self) -> str:
        digest = hashlib.sha256(self._text()).hexdigest()
        return f"{Path(self.graph).stem}-{self.precision}-{digest[:24]}.{self.part}"

    def _text(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/key2mesh/engines, by default ~/.cache/key2mesh/engines."""
    return io.cache_folder() / "engines"


class EngineCache:
    """A folder of built engines that only its user can read or write.

    Args:
        folder: by default `cache_folder()`; made when something is written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() if folder is None else folder

    def path(self, key: EngineKey) -> Path:
        return self.folder / key.file_name

    def read(self, key: EngineKey) -> bytes | None:
        """The engine of this key; None if there is none yet.

        Raises:
            EngineError: the file is damaged, another's, or somebody else might have written it.
        """
        path = self.path(key)
        try:
            # A link could lead to a file of somebody else's choosing.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refused(path, f"cannot be opened: {error.strerror}") from error
        try:
            with os.fdopen(descriptor, "rb") as stream:
                _check_private(self.folder, os.stat(self.folder))
                _check_private(path, os.fstat(stream.fileno()))
                return _checked(path, key, stream.readline(_HEADER_LIMIT), stream)
        except OSError as error:
            raise _refused(path, f"cannot be read: {error.strerror}") from error

    def write(self, key: EngineKey, content: bytes) -> Path:
        """Keeps an engine; it is there whole or not at all.

        Raises:
            EngineError: the folder cannot be made or written, or is not the user's alone.
        """
        path = self.path(key)
        header = {
            "key": asdict(key),
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir(mode=0o700)
            _check_private(self.folder, os.stat(self.folder))
            with atomic_write(path, mode=0o600) as unfinished, unfinished.open("wb") as stream:
                stream.write(_MAGIC)
                stream.write(json.dumps(header).encode() + b"\n")
                stream.write(content)
        except OSError as error:
            raise EngineError(
                f"{error.filename or path}: cannot be written: {error.strerror}; engines are kept "
                "in the user's cache folder, which XDG_CACHE_HOME can name"
            ) from error
        return path

    def remove(self, key: EngineKey) -> None:
        """Forgets an engine, if it is there."""
        self.path(key).unlink(missing_ok=True)


def _check_private(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.getuid():
        raise _refused(path, f"belongs to user {status.st_uid}, not to {os.getuid()}")
    if status.st_mode & 0o022:
        raise _refused(path, f"others may write it (mode {stat.S_IMODE(status.st_mode):04o})")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise _refused(path, "is no file")


def _checked(path: Path, key: EngineKey, first: bytes, stream: BinaryIO) -> bytes:
    if first != _MAGIC:
        raise _refused(path, "is no engine of this version of key2mesh")
    try:
        header = json.loads(stream.readline(_HEADER_LIMIT))
        found, size, expected = header["key"], header["bytes"], header["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _refused(path, "has a damaged header") from error
    if found != json.loads(json.dumps(asdict(key))):
        raise _refused(path, "was built for something else")
    if not isinstance(size, int) or size < 0:
        raise _refused(path, "has a damaged header")
    content = stream.read(size)
    content += stream.read(1)  # there must be nothing more
    if len(content) != size or hashlib.sha256(content).hexdigest() != expected:
        raise _refused(path, f"is truncated or altered ({len(content)} of {size} bytes)")
    return content


def _refused(path: Path, reason: str) -> EngineError:
    return EngineError(
        f"{path}: {reason}, so it is not used; remove it, and `key2mesh build-engine` makes it anew"
    )
