# SPDX-License-Identifier: Apache-2.0
"""From motion capture to training batches: poses, a camera, and what a detector makes of them."""
