# SPDX-License-Identifier: Apache-2.0
"""What a robot runs: bundle, engine and estimator, without torch."""
