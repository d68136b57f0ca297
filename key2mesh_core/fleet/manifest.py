# SPDX-License-Identifier: Apache-2.0
"""Manifests: which recordings or robots there are, with options of their own.

A manifest is a JSON list, or has one entry per line: a JSON object, or just a recording's name.
Empty lines and lines that begin with `#` do not count.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar, get_type_hints

from key2mesh_core.errors import Key2MeshError, TargetError
from key2mesh_core.fleet.storage import (
    Entry,
    entries,
    is_pattern,
    is_remote,
    local_path,
    read_text,
)
from key2mesh_core.recordings.options import recognise

_SUFFIXES = (".txt", ".json", ".jsonl")
_RECORDINGS = (".mcap", ".db3", ".npz", ".json", ".pkl", ".bag")
_NAME = re.compile(r"[\w-][\w.-]*")

Options = TypeVar("Options")


def is_manifest(address: str) -> bool:
    """Whether an argument names a manifest and not a folder or a pattern."""
    return address.endswith(_SUFFIXES) and not is_pattern(address)


def read_manifest(address: str) -> list[dict[str, Any] | str]:
    """The entries of a manifest: objects, and names of recordings.

    Raises:
        Key2MeshError: it cannot be read, is empty, or an entry is neither.
    """
    text = read_text(address)
    if text.lstrip().startswith("["):
        found = [("entry", n + 1, entry) for n, entry in enumerate(_parsed(text, address))]
    else:
        lines = [(n + 1, line.strip()) for n, line in enumerate(text.splitlines())]
        found = [
            ("line", n, _parsed(line, f"{address}, line {n}") if line[0] == "{" else line)
            for n, line in lines
            if line and not line.startswith("#")
        ]
    for what, number, entry in found:
        if not isinstance(entry, dict | str):
            raise Key2MeshError(
                f"{address}, {what} {number}: an entry is a recording's name or an object, got "
                f"{json.dumps(entry)[:80]}"
            )
    if not found:
        raise Key2MeshError(f"{address} is empty: there is nothing to do")
    return [entry for _, _, entry in found]


def recordings_in(address: str) -> tuple[list[str], list[str]]:
    """The recordings in a folder or matched by a pattern, and what else there is.

    Raises:
        Key2MeshError: it cannot be read, holds no recording, or is a recording itself.
    """
    pattern = is_pattern(address)
    found = entries(address)
    if not pattern and any(entry.address.endswith("/metadata.yaml") for entry in found):
        raise Key2MeshError(
            f"{address} is a bag: key2mesh mesh takes a single recording; here, give the folder "
            "that contains it"
        )
    recordings, others = [], []
    for entry in found:
        (recordings if pattern or _is_recording(entry) else others).append(entry.address)
    if not recordings:
        raise Key2MeshError(f"{address} contains no recording: there is nothing to do")
    return recordings, others


def changed(options: Options, changes: dict[str, Any], where: str, fixed: Collection[str]) -> Any:
    """A dataclass of options with the values of a manifest's entry.

    Args:
        where: the entry, for errors.
        fixed: options that an entry cannot change.

    Raises:
        Key2MeshError: an option is unknown or has a value of another type or out of range.
    """
    known = {each.name for each in fields(options)} - set(fixed)
    if unknown := sorted(set(changes) - known):
        raise Key2MeshError(
            f"{where}: unknown option {', '.join(unknown)}; there are: {', '.join(sorted(known))}"
        )
    hints = get_type_hints(type(options))
    values = {}
    for name, value in changes.items():
        old = getattr(options, name)
        if is_dataclass(old) and isinstance(value, dict):
            values[name] = changed(old, value, f"{where}, {name}", ())
        else:
            values[name] = _checked(value, old, hints[name], f"{where}: {name}")
    try:
        return replace(options, **values)
    except Key2MeshError as error:
        raise type(error)(f"{where}: {error}") from error


def named(names: Sequence[str], sources: Sequence[str]) -> None:
    """Checks the names of jobs, which become file names.

    Raises:
        Key2MeshError: a name is not a file name, or two jobs have the same.
    """
    for name in names:
        if not _NAME.fullmatch(name) or name.startswith("_"):
            raise Key2MeshError(
                f"{name!r} cannot name an output: use letters, digits, '-', '.' and '_', and begin "
                "with a letter or digit"
            )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        who = [source for name, source in zip(names, sources, strict=True) if name == repeated[0]]
        raise Key2MeshError(
            f"{len(repeated)} name(s) would be used more than once: {repeated[0]!r} is the output "
            f'of {" and ".join(who[:3])}: list them in a manifest with a "name" for each'
        )


def name_of(address: str, root: str = "") -> str:
    """A file name for a recording: its path below `root`, by default only its last part, without
    the suffix."""
    path = PurePosixPath(address)
    name = str(path.relative_to(root)) if root and path.is_relative_to(root) else path.name
    stem = next((name.removesuffix(s) for s in _RECORDINGS if name.endswith(s)), name)
    return re.sub(r"[^\w.-]", "_", stem).lstrip("._") or "recording"


def _is_recording(entry: Entry) -> bool:
    if entry.is_folder and is_remote(entry.address):
        return True
    if not entry.address.endswith(_RECORDINGS) and not entry.is_folder:
        return False
    if is_remote(entry.address):
        return True
    try:
        recognise(local_path(entry.address))
    except TargetError:  # a damaged file is a recording, and its error will be reported
        return not entry.is_folder
    return True


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Key2MeshError(f"{where}: not JSON: {error}") from error


def _checked(value: Any, old: Any, hint: Any, where: str) -> Any:
    """A JSON value as the type of an option whose default is `old`."""
    if isinstance(value, list) and isinstance(old, tuple):
        return tuple(value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    choices = getattr(hint, "__args__", ()) if "Literal" in str(hint) else ()
    if choices and value not in choices:
        raise Key2MeshError(f"{where} must be one of {', '.join(choices)}, got {value!r}")
    wanted = type(old)
    if type(value) is not wanted and not (wanted.__module__ == "pathlib" and type(value) is str):
        raise Key2MeshError(f"{where} must be a {wanted.__name__}, got {json.dumps(value)}")
    return value
