# SPDX-License-Identifier: Apache-2.0
"""How good is a model: errors in millimetres, on motion capture and on real detections."""
