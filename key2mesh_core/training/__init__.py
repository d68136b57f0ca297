# SPDX-License-Identifier: Apache-2.0
"""Training the network: pre-training on motion capture."""
