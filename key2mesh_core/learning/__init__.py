# SPDX-License-Identifier: Apache-2.0
"""Pre-training, adaptation and export (torch)."""
