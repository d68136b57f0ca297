# SPDX-License-Identifier: Apache-2.0
"""Measures how fast Key2Mesh is, and what adaptation brings: what a user may want to rerun."""

import os

# Before anything imports onnxruntime, whose newer versions send usage data otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
