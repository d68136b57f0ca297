# SPDX-License-Identifier: Apache-2.0
"""Steps of tools/make_default_body.py, one a module."""
