# SPDX-License-Identifier: Apache-2.0
"""ROS for the tests of this folder; they need rclpy and built messages (tools/with-ros)."""

from importlib.util import find_spec

import pytest

# Without ROS there is nothing to test here; `make test` always has it.
collect_ignore_glob = [] if find_spec("rclpy") else ["test_*.py", "*/test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def ros():
    """rclpy, without its signal handlers: an interrupt belongs to pytest."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.try_shutdown()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """Folder of the small bundle without trained weights."""
    from helpers_bundle import make_bundle

    return make_bundle(tmp_path_factory.mktemp("bundle") / "small").path


@pytest.fixture
def active(bundle):
    """(node, client) of an active node in this process."""
    from helpers_ros import QUICK, client, node_here

    with node_here(model=str(bundle), **QUICK) as node, client() as probe:
        assert probe.change_state("configure")
        assert probe.change_state("activate")
        probe.wait_for_node()
        yield node, probe
