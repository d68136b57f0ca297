# SPDX-License-Identifier: Apache-2.0
"""The `key2mesh` command."""
