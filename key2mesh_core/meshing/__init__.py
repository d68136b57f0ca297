# SPDX-License-Identifier: Apache-2.0
"""Makes meshes from whole recordings."""
