# SPDX-License-Identifier: Apache-2.0
"""Pre-training on motion capture."""
