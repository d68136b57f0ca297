# SPDX-License-Identifier: Apache-2.0
"""The qualities of service of the node's topics."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Sensor data of which only the newest message counts."""

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
"""Serves subscribers of either reliability."""

LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""Sent once; who comes later gets it too."""

LATEST_IDS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""A list that is sent again when it changes: none may be lost."""
