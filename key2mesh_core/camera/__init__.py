# SPDX-License-Identifier: Apache-2.0
"""Cameras: pinhole, CameraInfo, lens, depth images (numpy)."""
