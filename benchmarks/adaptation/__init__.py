# SPDX-License-Identifier: Apache-2.0
"""The paper's adaptation experiments on open data: the gain, and the effect of each part."""
