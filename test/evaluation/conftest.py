# SPDX-License-Identifier: Apache-2.0
"""The user's body files and regressor, for all tests of this folder."""

import pytest
from helpers_benchmarks import Licensed, licensed


@pytest.fixture(scope="session")
def mine(tmp_path_factory) -> Licensed:
    """SMPL of every gender in its file form, and Human3.6M's regressor. Do not alter the files."""
    return licensed(tmp_path_factory.mktemp("licensed"))
