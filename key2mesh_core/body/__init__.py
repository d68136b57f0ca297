# SPDX-License-Identifier: Apache-2.0
"""Bodies in SMPL's format: reading, writing, inspecting and (with torch) posing."""
