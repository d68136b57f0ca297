# SPDX-License-Identifier: Apache-2.0
"""Length of the reliability tests: short in `make test`, long in `make bench-reliability`."""

from collections.abc import Callable

import pytest


@pytest.fixture
def amount(request) -> Callable[[int, int], int]:
    """(short, long) -> how many: the short form, or `--scale` of the long one."""
    scale = request.config.getoption("scale")
    return lambda short, long: short if scale is None else max(2, round(long * scale))
