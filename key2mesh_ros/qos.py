# SPDX-License-Identifier: Apache-2.0
"""The qualities of service of the node's topics."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""For sensor data: only the newest message counts."""

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
"""For publishers: serves subscribers of either reliability."""

LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""Sent once; later subscribers get it, too."""

LATEST_IDS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""For a list that is sent only when it changes: no message may be dropped."""
