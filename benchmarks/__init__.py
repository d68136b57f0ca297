# SPDX-License-Identifier: Apache-2.0
"""Benchmarks that a user may want to rerun: the speed of Key2Mesh, and the gain from adaptation."""

import os

# Set before onnxruntime is imported, whose newer versions otherwise send usage data.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
