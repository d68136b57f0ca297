# SPDX-License-Identifier: Apache-2.0
"""Recorded detections to learn from, without labels: as the network's input, and as poses that
several cameras agree on. For adaptation and pre-training."""
