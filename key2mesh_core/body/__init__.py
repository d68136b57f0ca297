# SPDX-License-Identifier: Apache-2.0
"""Bodies in SMPL's format: read, write, look at, and (with torch) pose them."""
