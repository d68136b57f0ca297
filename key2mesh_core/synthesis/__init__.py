# SPDX-License-Identifier: Apache-2.0
"""From motion capture to training batches: poses, cameras and a simulated detector."""
