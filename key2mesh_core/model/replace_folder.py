# SPDX-License-Identifier: Apache-2.0
"""Replaces a folder by another one, so that a crash at any moment leaves a whole one to read.

No file system that Python knows of exchanges two folders in one step. So the old one is moved to
`NAME.old` first. Whoever is killed right then leaves `NAME.old` alone: readers use it (`standing`),
and the next writer moves it back before it begins (`restore`).
"""

from __future__ import annotations

import shutil
from pathlib import Path


def replace_folder(folder: Path, new: Path) -> None:
    """Moves `new`, which must be on the same file system, to where `folder` is."""
    old = _old(folder)
    restore(folder)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def restore(folder: Path) -> None:
    """Puts back what an interrupted `replace_folder` moved away, or removes it if it is done."""
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
