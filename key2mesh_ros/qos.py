# SPDX-License-Identifier: Apache-2.0
"""The QoS profiles of the node's topics."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For sensor data: only the newest message counts."""

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
"""For publishers: serves subscribers of either reliability."""

LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""Sent once; later subscribers also get it."""

LATEST_IDS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""For a list that is sent only when it changes, so no message may be dropped."""
