# SPDX-License-Identifier: Apache-2.0
"""The network, its normalised input, and its exported graphs (torch)."""
