# SPDX-License-Identifier: Apache-2.0
"""ROS for the tests of this folder; they need rclpy and built messages (tools/with-ros)."""

import subprocess
import sys
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


def pytest_collection_finish(session):
    """Begin to build other detectors' packages, if need be, while other tests run."""
    needed = any("interfaces" in item.fixturenames for item in session.items)
    if needed and not session.config.option.collectonly:
        import helpers_interfaces

        # What goes wrong is told by the fixture, which tries again.
        program = ["nice", "-n", "5", sys.executable, helpers_interfaces.__file__]
        subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def interfaces():
    """The packages of other detectors' messages, and of TF's."""
    import helpers_interfaces

    helpers_interfaces.use(helpers_interfaces.built())


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
