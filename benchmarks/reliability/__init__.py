# SPDX-License-Identifier: Apache-2.0
"""What the node bears, measured: each part in a short form in the tests, in a long form here.

    tools/with-ros python -m benchmarks.reliability fuzz soak ... --scale 0.01

The parts stand on the tests' helpers (a small bundle, a client of the node, other detectors'
interface packages), so the tests' folder joins the path.
"""

import sys
from pathlib import Path

_TESTS = str(Path(__file__).parents[2] / "test")
if _TESTS not in sys.path:
    sys.path.append(_TESTS)
