# SPDX-License-Identifier: Apache-2.0
"""Measures models: errors in millimetres on motion capture and on real detections."""
