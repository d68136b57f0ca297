# SPDX-License-Identifier: Apache-2.0
"""Does one job of a fleet (one recording, one robot): claim, make, place, record.

OUTPUT/_records/NAME.json tells the state of a job: "started" when a worker claims it, "made" when
its target is in place, or "failed". A job is complete if its record says "made" for the same
settings and its target exists. A worker that dies leaves "started": the next one makes the target
again, resuming what is left in the scratch folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from key2mesh_core import io
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.fleet.storage import (
    Folder,
    fetch,
    fingerprint,
    is_remote,
    local_path,
    output_folder,
)
from key2mesh_core.meshing.partial import InUseError

Record = dict[str, Any]
"""A JSON line: `name`, `state` ("started", "made", "skipped" or "failed"), `source`, `target`,
`worker` (HOST:PROCESS), `seconds`, then the facts on what was made, or `error`. In OUTPUT/_records
it has `settings` too."""

RECORDS = "_records"
"""Names that begin with _ are ignored by readers of Parquet data sets."""

_IN_USE_S = 10.0
"""How long to wait for another process that holds the work [s]: one that is being killed."""


class Job(Protocol):
    """One unit of work; can be pickled.

    Attributes:
        name: the record's name.
        sources: recordings: a path or URL, or KIND:PATH?option=value, each.
        target: where the result goes, relative to the output folder.
    """

    name: str
    sources: tuple[str, ...]
    target: str

    def settings(self) -> dict[str, Any]:
        """What the result depends on besides the content of the sources, as plain JSON."""

    def make(self, sources: Sequence[str], target: Path) -> dict[str, Any]:
        """Makes the target from local sources, resuming the work of a killed process; returns facts
        for the record."""


class Place(NamedTuple):
    """A named recording in parts: `kind` with its colon, address, and options with their
    question mark."""

    kind: str
    address: str
    query: str


def place_of(source: str) -> Place:
    """The parts of a source's name."""
    kind, colon, rest = source.partition(":")
    if not colon or rest.startswith("//") or not kind.isalnum() or local_path(source).exists():
        kind, colon, rest = "", "", source
    if not is_remote(rest) and local_path(rest).exists():
        return Place(kind + colon, rest, "")
    address, mark, query = rest.partition("?")
    return Place(kind + colon, address, mark + query)


def do(job: Job, output: str, scratch: str = "") -> Record:
    """Does a job unless it is complete. Errors become a record with the state "failed", because a
    damaged recording must not stop the others; interrupts are raised.

    Args:
        output: folder of the targets: a path or URL.
        scratch: local folder for unfinished work (`FleetOptions.scratch`).
    """
    begin = time.monotonic()
    line = _failed(job, output)
    try:
        folder = output_folder(output)
        settings = job.settings() | {"sources": [_described(source) for source in job.sources]}
        settings = json.loads(json.dumps(settings, sort_keys=True, default=str))
        done = _complete(job, folder, settings)
        if done is not None:
            return done | {"state": "skipped"}
    except Exception as error:
        return line | {"error": _reason(error)}  # the record of an earlier result stays
    here = _scratch_folder(output, scratch) / job.name
    try:
        line["worker"] = f"{socket.gethostname()}:{os.getpid()}"
        _write(folder, line | {"state": "started", "settings": settings})
        facts = _make(job, folder, here, settings)
        line |= {"state": "made", "seconds": round(time.monotonic() - begin, 3), **facts}
        _write(folder, line | {"settings": settings})
    except Exception as error:
        line |= {"state": "failed", "seconds": round(time.monotonic() - begin, 3)}
        line["error"] = _reason(error, here, job)
        with suppress(Key2MeshError):  # a full disk: the line is printed all the same
            _write(folder, line | {"settings": settings})
    shutil.rmtree(here, ignore_errors=True)
    return line


def gave_up(job: Job, output: str, error: str) -> Record:
    """Records a job whose workers died."""
    line = _failed(job, output) | {"error": error}
    with suppress(Key2MeshError):
        _write(output_folder(output), line | {"settings": {}})
    return line


def _failed(job: Job, output: str) -> Record:
    """The first values of a job's record, until it is made."""
    return {
        "name": job.name,
        "state": "failed",
        "source": ", ".join(job.sources),
        "target": f"{output.rstrip('/')}/{job.target}",
    }


def _scratch_folder(output: str, scratch: str) -> Path:
    """The folder for unfinished work of an output folder."""
    if scratch:
        root = Path(scratch).expanduser()
    elif not is_remote(output):
        return local_path(output) / "_work"
    else:
        root = Path(tempfile.gettempdir()) / "key2mesh"
    return root / hashlib.sha256(output.encode()).hexdigest()[:12]


def _complete(job: Job, folder: Folder, settings: dict[str, Any]) -> Record | None:
    """The record of a job that is complete."""
    text = folder.read(f"{RECORDS}/{job.name}.json")
    exists = folder.exists(job.target)
    if text is None:
        if exists:
            raise Key2MeshError(
                f"{folder.address}/{job.target} exists, but {RECORDS} has no record of it: remove "
                "it, or choose another output folder"
            )
        return None
    try:
        record = json.loads(text)
        earlier = record.pop("settings")
    except (ValueError, KeyError, AttributeError, TypeError):  # damaged: make it again
        return None
    if record.get("state") != "made" or not exists:
        return None
    if earlier != settings:
        names = [key for key in settings if earlier.get(key) != settings[key]]
        raise Key2MeshError(
            f"{folder.address}/{job.target} was made with other settings or from another source "
            f"({', '.join(names) or 'fewer'}): remove it, or choose another output folder"
        )
    return record


def _make(job: Job, folder: Folder, here: Path, settings: dict[str, Any]) -> dict[str, Any]:
    file = here / "settings.json"
    text = json.dumps(settings)
    if here.exists() and not (file.exists() and file.read_text() == text):
        shutil.rmtree(here)
    here.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    target = here / "made" / Path(job.target).name
    told = here / "facts.json"
    if not told.exists():  # else a process was killed between making and placing the target
        shutil.rmtree(target, ignore_errors=True)
        target.unlink(missing_ok=True)
        target.parent.mkdir(exist_ok=True)
        local = [_local(source, here / "source" / str(n)) for n, source in enumerate(job.sources)]
        facts = _patiently(lambda: job.make(local, target))
        io.write_text(told, json.dumps(facts))
    facts = json.loads(told.read_text())
    folder.place(target, job.target)
    return facts


def _local(source: str, fetched: Path) -> str:
    """The source's name on this machine; fetches what is elsewhere into the folder `fetched`.

    A copy that a killed process has fetched is reused: its unfinished work can be resumed only with
    the same files, whose times are compared.
    """
    kind, address, query = place_of(source)
    if not is_remote(address):
        return f"{kind}{local_path(address)}{query}"
    if not fetched.exists():
        unfinished = fetched.with_name(f"{fetched.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        fetch(address, unfinished)
        io.sync_tree(unfinished)
        unfinished.rename(fetched)
    (path,) = fetched.iterdir()
    return f"{kind}{path}{query}"


def _patiently(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Waits for a killed worker that still holds the work."""
    limit = time.monotonic() + _IN_USE_S
    while True:
        try:
            return make()
        except InUseError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.2)


def _described(source: str) -> list[Any]:
    kind, address, query = place_of(source)
    where = address if is_remote(address) else str(local_path(address).resolve())
    return [kind, where, query, fingerprint(address)]


def _write(folder: Folder, record: Record) -> None:
    folder.write(f"{RECORDS}/{record['name']}.json", json.dumps(record) + "\n")


def _reason(error: Exception, here: Path | None = None, job: Job | None = None) -> str:
    """An error in words, without the local names of fetched sources."""
    text = str(error)
    if not isinstance(error, Key2MeshError):  # a defect: its place helps
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__} in {place.filename}, line {place.lineno}: {text}"
    if here is not None and job is not None:
        for number, source in enumerate(job.sources):
            address = place_of(source).address.rstrip("/")
            name = address.rpartition("/")[2]
            text = text.replace(str(here / "source" / str(number) / name), address)
    return text
