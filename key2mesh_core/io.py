# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all, and JSON that is read with suspicion."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from key2mesh_core.errors import Key2MeshError


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, mode: int = 0o644) -> Iterator[Path]:
    """Yields the path of an empty file to fill, which replaces `path` when the block ends.

    The file has the suffix of `path`, so that savers that look at the name write the same format.
    Its content is on the disk before it gets its name, so that a loss of power leaves the old file
    or the new one. A block that raises (a full disk, Ctrl-C) leaves the old file and nothing else.

    Args:
        path: the file to write; missing folders above it are made.
        mode: permissions of the file; those of a temporary file would hide it from other users.

    Raises:
        OSError: the file cannot be written; callers say what it was for.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
    )
    os.close(descriptor)
    unfinished = Path(name)
    try:
        yield unfinished
        os.chmod(unfinished, mode)
        sync(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` as UTF-8, all or nothing; raises as `atomic_write`."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def sync(path: str | os.PathLike[str]) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(
    path: Path, max_bytes: int, error: type[Key2MeshError] = Key2MeshError, way_out: str = ""
) -> Any:
    """What a JSON file says.

    Args:
        path: the file.
        max_bytes: size above which the file is refused before it is read.
        error: class of the error that is raised.
        way_out: what to do about it, added to the error.

    Raises:
        Key2MeshError: of the class `error`: the file cannot be read, is too large, is cut off or
            is not JSON.
    """
    more = f"; {way_out}" if way_out else ""
    try:
        with path.open("rb") as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise error(
                f"{path}: larger than {max_bytes} bytes, the most that is read: split it{more}"
            )
        return json.loads(content)
    except OSError as failed:
        raise error(f"{path} cannot be read: {failed.strerror or failed}{more}") from failed
    except (ValueError, RecursionError) as failed:
        raise error(f"{path} is not JSON, or is cut off: {failed}{more}") from failed


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/key2mesh, by default ~/.cache/key2mesh; it may not exist yet."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of that variable says that relative paths are to be left out.
    base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    return base / "key2mesh"
