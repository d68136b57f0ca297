# SPDX-License-Identifier: Apache-2.0
"""Atomic writes of files and folders, and a JSON reader for untrusted files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from key2mesh_core.errors import Key2MeshError


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, mode: int = 0o644) -> Iterator[Path]:
    """Yields the path of an empty file to write, which replaces `path` when the block ends.

    The file has the suffix of `path`, because some writers derive the format from it. It is synced
    to disk before it is renamed, so a power loss leaves either the old or the new file. If the
    block raises (a full disk, Ctrl-C), only the old file remains.

    Args:
        path: the file to write; missing parent folders are created.
        mode: permissions of the file; a temporary file's would hide it from other users.

    Raises:
        OSError: the file cannot be written.
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
    """Writes `text` as UTF-8, atomically; raises like `atomic_write`."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def sync(path: str | os.PathLike[str]) -> None:
    """Waits until a file's content, or a folder's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """`sync` of a file, or of a folder and everything in it."""
    for each in (*path.rglob("*"), path):
        sync(each)


def replace_folder(folder: Path, new: Path) -> None:
    """Moves `new`, which must be on the same file system, to `folder`, so that a crash at any
    moment leaves a complete one.

    Python cannot exchange two folders atomically, so the old one is first moved to `NAME.old`. A
    process that is killed at that moment leaves only `NAME.old`: readers use it (`standing`), and
    the next writer first moves it back (`restore`).
    """
    old = _old(folder)
    restore(folder)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def restore(folder: Path) -> None:
    """Restores what an interrupted `replace_folder` moved away, or removes it if the replacement is
    complete."""
    old = _old(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        old.rename(folder)


def standing(folder: Path) -> Path:
    """The folder to read: `folder`, or what an interrupted `replace_folder` left of it."""
    old = _old(folder)
    return old if old.is_dir() and not folder.exists() else folder


def _old(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")


def read_json(
    path: Path, max_bytes: int, error: type[Key2MeshError] = Key2MeshError, way_out: str = ""
) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        max_bytes: a larger file is refused before it is read.
        error: class of the raised error.
        way_out: advice to append to the error.

    Raises:
        Key2MeshError: (of class `error`) the file cannot be read, is too large, truncated or not
            JSON.
    """
    more = f"; {way_out}" if way_out else ""
    try:
        with path.open("rb") as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise error(f"{path}: larger than the limit of {max_bytes} bytes: split it{more}")
        return json.loads(content)
    except OSError as failed:
        raise error(f"{path} cannot be read: {failed.strerror or failed}{more}") from failed
    except (ValueError, RecursionError) as failed:
        raise error(f"{path} is not JSON, or is truncated: {failed}{more}") from failed


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/key2mesh, by default ~/.cache/key2mesh; it need not exist yet."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore relative paths.
    base = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    return base / "key2mesh"
