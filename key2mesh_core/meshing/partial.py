# SPDX-License-Identifier: Apache-2.0
"""Work that survives Ctrl-C, kill -9 and a full disk: complete segments next to the target.

    OUT.partial/settings.json    source, target and settings
    OUT.partial/00000/           a complete segment, with state.json
    OUT.partial/unfinished/      the segment in progress; deleted when the work is resumed

A segment is written under another name and renamed when it is complete, and so is the target.
Whatever stops the process, nothing incomplete has a final name.
"""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from key2mesh_core import io
from key2mesh_core.errors import Key2MeshError

_STATE = "state.json"
_SETTINGS = "settings.json"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InUseError(Key2MeshError):
    """Another process is making the target."""


class Partial:
    """The unfinished work on one target, held by this process alone.

    Args:
        target: the file or folder to make.
        settings: everything that the result depends on, as plain JSON.
        restart: delete what an earlier process left.
        durable: sync each segment to disk, so that it also survives a power loss; too slow for
            segments of hundreds of small files.

    Raises:
        InUseError: another process is making the target.
        Key2MeshError: the target exists, or the unfinished work was started with other settings.
    """

    def __init__(
        self, target: Path, settings: Mapping[str, Any], restart: bool = False, durable: bool = True
    ) -> None:
        if target.exists():
            raise Key2MeshError(f"{target} already exists: remove it or choose another name")
        self.target, self._durable = target, durable
        self.folder = target.with_name(target.name + ".partial")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.folder)
        try:
            self._begin(json.dumps(settings, indent=1, sort_keys=True), restart)
        except BaseException:
            self._lock.close()
            raise

    def _begin(self, settings: str, restart: bool) -> None:
        file = self.folder / _SETTINGS
        if restart:
            self.clear()
        if file.exists() and file.read_text() != settings:
            differing = _differing(json.loads(file.read_text()), json.loads(settings))
            raise Key2MeshError(
                f"{self.folder} was started with other settings ({differing}): use the same ones, "
                "or --restart to start over"
            )
        if not file.exists():
            self.clear()
            io.write_text(file, settings)
        shutil.rmtree(self.folder / "unfinished", ignore_errors=True)

    def clear(self) -> None:
        """Deletes the complete segments."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()

    def segments(self) -> list[Path]:
        """The complete segments, in order."""
        return sorted(p for p in self.folder.iterdir() if p.name.isdigit())

    def state(self) -> dict[str, int]:
        """The state of the last complete segment; empty if there is none."""
        segments = self.segments()
        return json.loads((segments[-1] / _STATE).read_text()) if segments else {}

    @contextmanager
    def segment(self) -> Iterator[tuple[Path, dict[str, int]]]:
        """An empty folder and a state to fill; the segment is complete when the block ends without
        an error."""
        folder, state = self.folder / "unfinished", {}
        folder.mkdir()
        yield folder, state
        io.write_text(folder / _STATE, json.dumps(state))
        self._settle(folder)
        folder.rename(self.folder / f"{len(self.segments()):05d}")
        io.sync(self.folder)

    def finish(self, build: Callable[[list[Path], Path], None]) -> None:
        """Puts the target in place, which `build` makes from the segments at another path. `build`
        may move files out of the segments, and may be called again after an interruption."""
        made = self.folder / "target"
        build(self.segments(), made)
        self._settle(made)
        made.rename(self.target)
        io.sync(self.target.parent)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def _settle(self, made: Path) -> None:
        if self._durable:
            io.sync_tree(made)

    def close(self) -> None:
        """Lets another process resume the work; deletes a folder without a complete segment."""
        if self.folder.exists() and not self.segments() and not self._lock.closed:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turns the errors of a full or read-only disk into `Key2MeshError`."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        if isinstance(error, OSError):
            full = error.errno in _NO_SPACE
        else:  # it has no error number
            full = "full" in str(error) or "I/O" in str(error)
        if not full:
            raise Key2MeshError(f"{target} cannot be made: {error}") from error
        free = shutil.disk_usage(target.parent).free >> 20
        raise Key2MeshError(
            f"no space to write {target} ({error}; {free} MiB are free): free some, and give the "
            "same command again to resume"
        ) from error


def _lock(folder: Path) -> IO[str]:
    stream = (folder / "lock").open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        raise InUseError(f"another process is using {folder}: wait until it ends") from None
    return stream


def _differing(old: Any, new: Any) -> str:
    names = sorted(key for key in {**old, **new} if old.get(key) != new.get(key))
    return ", ".join(
        f"{key}: before {old.get(key)!r:.80}, now {new.get(key)!r:.80}" for key in names
    )
