# SPDX-License-Identifier: Apache-2.0
"""What a robot runs: a bundle, an engine, the estimator; never torch."""
