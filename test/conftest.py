# SPDX-License-Identifier: Apache-2.0
"""The environment of every test: an isolated network and repeatable random examples."""

import gc
import os
import signal
import tempfile

from hypothesis import settings

from tools.domain import claim_domain

# Two runs on one machine, or on one network, must not hear each other.
claim_domain()
# Before anything imports onnxruntime, whose newer versions send usage data otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Spinning threads slow tests down when anything else runs on the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Tests compute so little that a second thread costs more than it gains.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ROS_LOG_DIR", os.path.join(tempfile.gettempdir(), "key2mesh_test_logs"))

# A shell that runs the tests in the background has told them to ignore Ctrl-C; the programs that
# the tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("local", deadline=None, max_examples=50)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_finish():
    """Freeze what is imported so far: scanning it in every garbage collection takes minutes."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser):
    """`--scale 1` runs the reliability tests in their long form: hours."""
    parser.addoption("--scale", type=float, help="length of the reliability tests: 1 takes hours")
