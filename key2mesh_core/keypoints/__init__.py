# SPDX-License-Identifier: Apache-2.0
"""Keypoints: their names, detectors' layouts, arrays of them (numpy)."""
