# SPDX-License-Identifier: Apache-2.0
"""Paths in the source tree."""

from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
PACKAGES = ("key2mesh_core", "key2mesh_ros")
