# SPDX-License-Identifier: Apache-2.0
"""Replaces a folder with another one, so that a crash at any moment leaves a complete one.

Python cannot exchange two folders atomically, so the old one is first moved to `NAME.old`. A
process that is killed at that moment leaves only `NAME.old`: readers use it (`standing`), and the
next writer first moves it back (`restore`).
"""

from __future__ import annotations

import shutil
from pathlib import Path


def replace_folder(folder: Path, new: Path) -> None:
    """Moves `new`, which must be on the same file system, to `folder`."""
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
