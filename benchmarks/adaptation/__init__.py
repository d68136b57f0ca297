# SPDX-License-Identifier: Apache-2.0
"""The paper's tables on open data: what adaptation brings, and what each of its parts does."""
