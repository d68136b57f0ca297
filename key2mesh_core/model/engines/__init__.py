# SPDX-License-Identifier: Apache-2.0
"""Engines run a bundle's graphs; each is a module that imports its library lazily."""
