# SPDX-License-Identifier: Apache-2.0
"""The persons of an image: messages, tracking, smoothing, quality (numpy)."""
