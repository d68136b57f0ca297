# SPDX-License-Identifier: Apache-2.0
"""Adaptation to unlabelled detections."""
