# SPDX-License-Identifier: Apache-2.0
"""Recorded detections and motion capture: every format behind one interface."""
