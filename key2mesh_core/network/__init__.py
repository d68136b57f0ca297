# SPDX-License-Identifier: Apache-2.0
"""The network, what it sees of a person, and its graphs (torch)."""
