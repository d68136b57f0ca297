# SPDX-License-Identifier: Apache-2.0
"""Finds the keypoint topics of a bag that the user means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from key2mesh_core.errors import BagError
from key2mesh_core.people.messages import BY_TYPE
from key2mesh_core.recordings.bags import Topic

DEFAULT_TOPIC = "/keypoints"
"""The default among several topics."""

PERSONS_PATTERN = "/humans/bodies/*/skeleton2d"
"""Where ROS4HRI (REP-155) publishes each person's keypoints."""


@dataclass(frozen=True)
class ChosenTopics:
    """One or more keypoint topics: those of several `cameras` or, with a `pattern`, of the people
    in one image."""

    topics: tuple[Topic, ...]
    pattern: str = ""
    cameras: bool = False


def choose_topics(path: Path, wanted: str, topics: Sequence[Topic]) -> ChosenTopics:
    """The topics that a name stands for: itself; all that its `*` matches, one for each person; or,
    with commas, one for each camera. An empty name stands for the only keypoint topic.

    Raises:
        BagError: there is no such topic, it has another type or is empty; or there are several and
            the name is empty.
    """
    if "," in wanted:
        return ChosenTopics(_listed(path, wanted, topics), cameras=True)
    if wanted:
        found = _named(path, wanted, topics)
        return ChosenTopics(found, wanted if wanted != found[0].name else "")
    good = [t for t in topics if t.message_type in BY_TYPE and t.message_count]
    if not good:
        listed = ", ".join(f"{t.name} ({t.message_type}, {t.message_count})" for t in topics)
        raise BagError(
            f"{path} has no keypoints, that is, no messages of {', '.join(BY_TYPE)}; it has: "
            f"{listed or 'no topic at all'}"
        )
    named = {t.name: t for t in good}
    if len(named) == 1:
        return ChosenTopics((good[0],))
    if all(fnmatchcase(name, PERSONS_PATTERN) for name in named):
        return ChosenTopics(tuple(named.values()), PERSONS_PATTERN)
    if DEFAULT_TOPIC in named:
        return ChosenTopics((named[DEFAULT_TOPIC],))
    raise BagError(
        f"{path} has keypoints on {', '.join(sorted(named))}: choose with topic=TOPIC "
        "(--topic TOPIC)"
    )


def wildcard(pattern: str, name: str) -> str:
    """The part of a name that a pattern's single `*` matches; empty if there is no `*`."""
    before, star, after = pattern.partition("*")
    return name[len(before) : len(name) - len(after)] if star else ""


def _listed(path: Path, names: str, topics: Sequence[Topic]) -> tuple[Topic, ...]:
    """The topics of several cameras, from their names separated by commas."""
    listed = names.split(",")
    if "*" in names:
        raise BagError(
            f"{path}: {names!r} has both '*' and ','; a pattern names the topics of people, a "
            "list those of cameras: name one topic for each camera"
        )
    if "" in listed:
        raise BagError(f"{path}: {names!r} has an empty name: write /left/people,/right/people")
    twice = [name for place, name in enumerate(listed) if name in listed[:place]]
    if twice:
        raise BagError(f"{path}: {names!r} names {twice[0]!r} twice; each topic must be one camera")
    return tuple(_named(path, name, topics)[0] for name in listed)


def _named(path: Path, topic: str, topics: Sequence[Topic]) -> tuple[Topic, ...]:
    named = [t for t in topics if t.name == topic]
    if not named and "*" in topic:
        named = [t for t in topics if fnmatchcase(t.name, topic) and t.message_type in BY_TYPE]
    if not named:
        good = [t for t in topics if t.message_type in BY_TYPE]
        listed = "\n".join(
            f"  {t.name} ({t.message_type}, {t.message_count} messages)" for t in good or topics
        )
        what = "It has keypoints on" if good else "No topic has keypoints; it has"
        raise BagError(f"{path} has no topic {topic!r}. {what}:\n{listed or '  no topic at all'}")
    for one in named:
        if one.message_type not in BY_TYPE:
            raise BagError(
                f"{path}: topic {one.name!r} has type {one.message_type}; keypoints are read from "
                f"{', '.join(BY_TYPE)}"
            )
    if not sum(one.message_count for one in named):
        raise BagError(f"{path}: topic {topic!r} has no messages")
    return tuple({one.name: one for one in named}.values())
