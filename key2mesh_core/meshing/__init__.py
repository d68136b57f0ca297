# SPDX-License-Identifier: Apache-2.0
"""Whole recordings to meshes."""
