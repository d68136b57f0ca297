# SPDX-License-Identifier: Apache-2.0
"""The methods' names in tables."""

ENGINE = "engine"
FLOAT32 = "engine, 32-bit weights"
ENGINE_PUBLISHED = "engine, published network"
PUBLISHED = "published network + smplx"
TORCH = "PyTorch"
LEARNED_DESCENT = "learned gradient descent"
LEARNED_DESCENT_LEAN = "learned gradient descent, lean"
OPTIMISATION = "optimisation (SMPLify's kind)"
