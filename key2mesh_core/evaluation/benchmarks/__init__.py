# SPDX-License-Identifier: Apache-2.0
"""Published benchmarks (3DPW, Human3.6M, EMDB) on the user's copy of the data."""
