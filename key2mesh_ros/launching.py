# SPDX-License-Identifier: Apache-2.0
"""Checks the launch files' arguments. Imports nothing but ROS's launch."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from launch.substitutions import LaunchConfiguration

from launch import LaunchContext


class LaunchArgumentError(RuntimeError):
    """A launch argument that does not exist or has a wrong value."""


def truth(text: str) -> bool:
    """The truth value of 'true' or 'false'; raises KeyError for anything else."""
    return {"true": True, "false": False}[text.lower()]


_KINDS = {truth: "'true' or 'false'", int: "a whole number", float: "a number"}


def value_of(context: LaunchContext, name: str, kind: Callable[[str], Any] = str) -> Any:
    """The value of a launch argument, as text or converted by `truth`, `int` or `float`; raises
    LaunchArgumentError for a text that cannot be."""
    text = LaunchConfiguration(name).perform(context)
    try:
        return kind(text)
    except (KeyError, ValueError):
        raise LaunchArgumentError(f"{name}:={text} must be {_KINDS[kind]}") from None


def refuse_unknown(context: LaunchContext, file: str, known: Iterable[str]) -> None:
    """Refuse arguments on the command line that a launch file does not declare.

    Launch itself accepts any name. Only the launch file named on the command line is checked
    (`file` is its `__file__`), because a file that includes it has its own arguments.
    """
    name = Path(file).name
    if name not in {Path(word).name for word in sys.argv}:
        return
    known = sorted(known)
    for word in context.argv:
        given, separator, _ = word.partition(":=")
        if separator and given not in known:
            near = difflib.get_close_matches(given, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(known)}"
            raise LaunchArgumentError(f"{name} has no argument {given!r}; {hint}")
