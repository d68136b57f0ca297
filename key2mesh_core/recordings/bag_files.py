# SPDX-License-Identifier: Apache-2.0
"""Opens bags; the error for a damaged one says what is wrong and how to repair it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader

from key2mesh_core.errors import BagError

RawMessage = tuple[Connection, int, bytes]
"""A message's connection, its time of recording [ns], and its CDR bytes."""

_MCAP, _SQLITE, _ROS_1 = b"\x89MCAP0\r\n", b"SQLite format 3\0", b"#ROSBAG"
_BUG_REPORT = "; please report issue."  # advice of rosbags that does not apply here


@contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """An open reader of a rosbag2 folder or file.

    If a folder's metadata is missing or unreadable, the single file in it is read.

    Raises:
        BagError: the recording is missing, damaged, from ROS 1, or contradicts its own metadata.
    """
    reader = _reader(path)
    try:
        promised = sum(connection.msgcount for connection in reader.connections)
        if promised != reader.message_count:
            raise BagError(
                f"{path}: its metadata counts {reader.message_count} messages in total, but "
                f"{promised} over its topics; run `ros2 bag reindex` on it"
            )
        yield reader
    finally:
        reader.close()


def raw_topics(
    path: Path, topics: Sequence[str], message_type: str | None = None
) -> Iterator[RawMessage]:
    """The messages of some topics in the order of recording.

    They are counted before the first is yielded, because the reader yields nothing, or too little,
    without an error if a folder's metadata does not match its storage.

    Raises:
        BagError: see `opened`; also if a topic is missing, has another type, or its number of
            messages differs from the metadata, or if all topics are empty.
    """
    with opened(path) as reader:
        connections = [c for c in reader.connections if c.topic in topics]
        for topic in topics:
            if not any(c.topic == topic for c in connections):
                known = ", ".join(sorted(f"{c.topic} ({c.msgtype})" for c in reader.connections))
                raise BagError(f"{path} has no topic {topic!r}; it has: {known or 'none at all'}")
        for connection in connections:
            if message_type not in (None, connection.msgtype):
                raise BagError(
                    f"{path}: topic {connection.topic!r} has type {connection.msgtype}, "
                    f"expected {message_type}"
                )
        found = Counter(c.topic for c, _, _ in _raw(path, reader, connections))
        for topic in topics:
            promised = sum(c.msgcount for c in connections if c.topic == topic)
            if promised != found[topic]:
                raise _contradiction(path, f"on {topic!r}", promised, found[topic])
        if not found:
            raise BagError(f"{path}: topic {' or '.join(map(repr, topics))} has no messages")
        yield from _raw(path, reader, connections)


def every_message(path: Path, reader: Reader) -> Iterator[RawMessage]:
    """All messages of an open recording in order."""
    found = 0
    for item in _raw(path, reader, reader.connections):
        found += 1
        yield item
    if found != reader.message_count:
        raise _contradiction(path, "in all", reader.message_count, found)


def _contradiction(path: Path, where: str, promised: int, found: int) -> BagError:
    reindex = "run `ros2 bag reindex` on it, or " if path.is_dir() else ""
    return BagError(
        f"{path}: its metadata states {promised} messages {where}, its storage has {found}; "
        f"{reindex}{_recover(path)}"
    )


def _raw(path: Path, reader: Reader, connections: list[Connection]) -> Iterator[RawMessage]:
    messages = reader.messages(connections)
    while True:
        try:
            item = next(messages, None)
        except Exception as error:  # damaged files make rosbags raise asserts, struct.error...
            raise BagError(
                f"{path} is damaged or truncated: {error!r}; {_recover(path)}"
            ) from error
        if item is None:
            return
        yield item


def _reader(path: Path) -> Reader:
    if not path.exists():
        raise BagError(f"there is no recording {path}")
    inside = _files(path) if path.is_dir() else [path]
    file = path if not path.is_dir() or (path / "metadata.yaml").exists() else None
    if file is None and len(inside) != 1:
        packed = sorted(path.glob("*.zstd"))
        if packed:
            hint = f"unpack {packed[0].name} with `zstd -d`, or run `ros2 bag reindex {path}`"
        elif inside:
            hint = f"run `ros2 bag reindex {path}`"
        else:
            hint = "give the folder of a recording"
        raise BagError(
            f"{path} has no metadata.yaml, so it is not a rosbag2 folder, and {len(inside)} files "
            f".mcap or .db3: {hint}"
        )
    for each in [file or inside[0], *(inside if file and path.is_dir() else ())]:
        try:
            reader = Reader(each)
            reader.open()
            return reader
        except Exception as error:  # damaged files make rosbags raise asserts, struct.error...
            failed = error
        if "files are missing" in str(failed):  # so the file in it is not the whole recording
            raise BagError(f"{path} cannot be read: {failed}") from failed
        if len(inside) != 1:
            break
    raise BagError(f"{path} cannot be read: {_why(inside, failed)}") from failed


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in (".mcap", ".db3", ".bag"))


def _why(files: list[Path], error: Exception) -> str:
    """What is wrong with files that cannot be opened, and how to repair them."""
    for file in files:
        if not file.stat().st_size:
            return f"{file} is empty: nothing was recorded, or it was lost; record it again"
        with file.open("rb") as stream:
            begin = stream.read(16)
            stream.seek(max(0, file.stat().st_size - len(_MCAP)))
            end = stream.read()
        if begin.startswith(_ROS_1) or file.suffix == ".bag":
            return (
                f"{file} is a ROS 1 bag: convert it with `rosbags-convert --src {file} --dst "
                f"{file.with_suffix('')}`"
            )
        known = {".mcap": _MCAP, ".db3": _SQLITE}[file.suffix] if file.suffix else b""
        if not begin.startswith(known):
            return f"{file} is not a {file.suffix[1:]} file, or its beginning is damaged ({error})"
        if len(files) == 1 or (file.suffix == ".mcap" and end != _MCAP):
            return f"{file} was not closed (a power loss?) or is damaged; {_recover(file)}"
    text = str(error).removesuffix(_BUG_REPORT)
    return f"{text}; run `ros2 bag reindex` on it, or give one of the .mcap or .db3 files inside"


def _recover(path: Path) -> str:
    """How to recover a damaged file."""
    file = next(iter(_files(path)), path / "FILE.mcap") if path.is_dir() else path
    good = file.with_name(f"{file.stem}_recovered{file.suffix}")
    if file.suffix == ".db3":
        return f"recover it with `sqlite3 {file} .recover | sqlite3 {good}` and read {good}"
    return f"recover it with `mcap recover {file} -o {good}` and read {good}"
