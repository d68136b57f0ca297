# SPDX-License-Identifier: Apache-2.0
"""Folders on disk and in object storage (s3://, gs://...) behind the same few functions.

Paths and file:// URLs need nothing; other URLs need fsspec and the package of their service, such
as s3fs or gcsfs. On disk a file or folder appears by renaming it. In object storage a file appears
when its upload is complete (large files are uploaded in parts), and a folder's files appear one
after the other: whether a folder is complete is stated by its record (work.py).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

from key2mesh_core import io
from key2mesh_core.errors import Key2MeshError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Entry(NamedTuple):
    """A file or folder: its path or URL, and whether it is a folder."""

    address: str
    is_folder: bool


class Folder(Protocol):
    """A folder that outputs go to; names are relative paths with slashes."""

    address: str

    def read(self, name: str) -> str | None:
        """The text of a file; None if there is none."""

    def write(self, name: str, text: str) -> None:
        """Writes a text file; the old or the new one is there at any moment."""

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder."""

    def place(self, made: Path, name: str) -> None:
        """Moves a complete file or folder here, replacing what is there."""


def is_remote(address: str) -> bool:
    """Whether an address is a URL of another place than this machine's disk."""
    return bool(_URL.match(address)) and not address.startswith("file://")


def local_path(address: str) -> Path:
    """The path of a local address: a path or a file:// URL."""
    return Path(address.removeprefix("file://")).expanduser()


def is_pattern(address: str) -> bool:
    """Whether an address, or a part of one, has `*`, `?` or `[`."""
    return any(character in address for character in "*?[")


def fixed_part(address: str) -> str:
    """The folder that everything a pattern matches is in, named as `entries` does: the part before
    the first part with `*`, `?` or `[`."""
    local = not is_remote(address)
    parts = local_path(address).parts if local else address.split("/")
    fixed = list(takewhile(lambda part: not is_pattern(part), parts))
    return str(Path(*fixed)) if local else "/".join(fixed)


def output_folder(address: str) -> Folder:
    """The folder at a path or URL; it need not exist yet."""
    return _Bucket(address) if is_remote(address) else _Disk(address)


def entries(address: str) -> list[Entry]:
    """The content of a folder, or what a pattern with `*`, `?` or `[` matches, sorted; hidden files
    and those whose names begin with `_` are left out.

    Raises:
        Key2MeshError: there is no such folder, or it cannot be read.
    """
    pattern = is_pattern(address)
    with _named_errors(address):
        if is_remote(address):
            fs, path = _filesystem(address)
            if not pattern and not fs.isdir(path):
                raise Key2MeshError(f"{address}: there is no such folder")
            found = fs.glob(path, detail=True).values() if pattern else fs.ls(path, detail=True)
            result = [Entry(fs.unstrip_protocol(e["name"]), e["type"] != "file") for e in found]
            own = fs.unstrip_protocol(path).rstrip("/")  # some stores list a folder in itself
            result = [entry for entry in result if entry.address.rstrip("/") != own]
        else:
            where = local_path(address)
            if not pattern and not where.is_dir():
                raise Key2MeshError(f"{address}: there is no such folder")
            root = fixed_part(address)
            rest = str(where.relative_to(root))
            paths = Path(root).glob(rest) if pattern else where.iterdir()
            result = [Entry(str(path), path.is_dir()) for path in paths]
    return sorted(e for e in result if not PurePosixPath(e.address).name.startswith((".", "_")))


def read_text(address: str) -> str:
    """The text of a file at a path or URL.

    Raises:
        Key2MeshError: it cannot be read.
    """
    with _named_errors(address):
        if not is_remote(address):
            return local_path(address).read_text(encoding="utf-8")
        fs, path = _filesystem(address)
        return fs.cat_file(path).decode("utf-8")


def fetch(address: str, folder: Path) -> Path:
    """A local copy of a remote file or folder, inside `folder` under its own name.

    Raises:
        Key2MeshError: it cannot be read.
    """
    with _named_errors(address):
        fs, path = _filesystem(address)
        target = folder / PurePosixPath(path.rstrip("/")).name
        folder.mkdir(parents=True, exist_ok=True)
        if fs.isfile(path):
            fs.get_file(path, str(target))
        elif fs.isdir(path):
            fs.get(path.rstrip("/") + "/", str(target) + "/", recursive=True)
        else:
            raise FileNotFoundError("there is no such file or folder")
    return target


def fingerprint(address: str) -> list[list[Any]]:
    """Name, size and version of every file of a recording; changes when the recording does.

    Raises:
        Key2MeshError: it cannot be read.
    """
    with _named_errors(address):
        if is_remote(address):
            fs, path = _filesystem(address)
            found = fs.find(path, detail=True) or {path: fs.info(path)}
            return sorted(
                [name.removeprefix(path).lstrip("/"), info["size"], _version(info)]
                for name, info in found.items()
            )
        where = local_path(address)
        files = [p for p in where.rglob("*") if p.is_file()] if where.is_dir() else [where]
        status = [(path, path.stat()) for path in files]
        return sorted(
            [str(path.relative_to(where)), s.st_size, s.st_mtime_ns] for path, s in status
        )


class _Disk:
    """A folder on this machine's disk."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._path = local_path(address)

    def read(self, name: str) -> str | None:
        try:
            return (self._path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def write(self, name: str, text: str) -> None:
        with _named_errors(str(self._path / name)):
            io.write_text(self._path / name, text)

    def exists(self, name: str) -> bool:
        return (self._path / name).exists()

    def place(self, made: Path, name: str) -> None:
        target = self._path / name
        with _named_errors(str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            if made.stat().st_dev != target.parent.stat().st_dev:  # scratch is on another disk
                near = target.with_name(f".{target.name}.placing")
                shutil.rmtree(near, ignore_errors=True)
                made = Path(shutil.move(made, near))
            if made.is_dir():
                io.replace_folder(target, made)
            else:
                made.replace(target)
            io.sync(target.parent)


class _Bucket:
    """A folder in object storage, reached through fsspec."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        with _named_errors(address):
            self._fs, self._path = _filesystem(self.address)

    def read(self, name: str) -> str | None:
        with _named_errors(f"{self.address}/{name}"):
            try:
                return self._fs.cat_file(f"{self._path}/{name}").decode("utf-8")
            except FileNotFoundError:
                return None

    def write(self, name: str, text: str) -> None:
        with _named_errors(f"{self.address}/{name}"):
            self._fs.pipe_file(f"{self._path}/{name}", text.encode("utf-8"))

    def exists(self, name: str) -> bool:
        with _named_errors(f"{self.address}/{name}"):
            return self._fs.exists(f"{self._path}/{name}")

    def place(self, made: Path, name: str) -> None:
        target = f"{self._path}/{name}"
        with _named_errors(f"{self.address}/{name}"):
            if made.is_file():
                self._fs.put_file(str(made), target)
                return
            if self._fs.exists(target):
                self._fs.rm(target, recursive=True)
            # Readers refuse what is not whole yet: a bag whose metadata.yaml lists files that are
            # missing (without metadata.yaml, a single file would pass for the whole recording),
            # and a model without model.json.
            turn = {"metadata.yaml": -1, "model.json": 1}
            files = sorted(p for p in made.rglob("*") if p.is_file())
            for path in sorted(files, key=lambda p: turn.get(p.name, 0)):
                self._fs.put_file(str(path), f"{target}/{path.relative_to(made).as_posix()}")


def _filesystem(address: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it. Nothing is cached: other machines write
    to the same folders."""
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise Key2MeshError(f"{address}: URLs need the package fsspec: {_PACKAGES}") from error
    return fsspec.core.url_to_fs(address, use_listings_cache=False, skip_instance_cache=False)


_PACKAGES = "pip install s3fs (s3://), gcsfs (gs://) or the fsspec package of another service"


@contextmanager
def _named_errors(address: str) -> Iterator[None]:
    """Turns errors of a disk or a service into Key2MeshError with the address."""
    try:
        yield
    except Key2MeshError:
        raise
    except ImportError as error:  # fsspec names the package that the URL needs
        raise Key2MeshError(f"{address}: {error} ({_PACKAGES})") from error
    except Exception as error:  # each service has its own errors
        reason = str(error) or type(error).__name__
        advice = ""
        if "redential" in reason or isinstance(error, PermissionError):
            advice = ": give this machine the credentials of the service (docs/fleet.md)"
        raise Key2MeshError(f"{address} cannot be used: {reason}{advice}") from error


def _version(info: dict[str, Any]) -> str:
    keys = ("ETag", "etag", "LastModified", "mtime", "updated", "last_modified", "created")
    return next((str(info[key]) for key in keys if info.get(key)), "")
