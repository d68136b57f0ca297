# SPDX-License-Identifier: Apache-2.0
"""Data sets, detections and recordings: each module yields plain arrays."""
