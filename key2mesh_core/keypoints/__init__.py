# SPDX-License-Identifier: Apache-2.0
"""Keypoints: names, detectors' layouts, arrays (numpy)."""
