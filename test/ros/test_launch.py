# SPDX-License-Identifier: Apache-2.0
"""The launch file. ROS's launch exists in a ROS installation only; elsewhere small stand-ins
record what the file asks of it."""

import ast
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

FILE = Path(__file__).parents[2] / "launch" / "mesh.launch.py"
ARGUMENTS = {
    "keypoints",
    "camera_info",
    "model",
    "backend",
    "namespace",
    "params_file",
    "publish_vertices",
}


class Recorded(SimpleNamespace):
    """Keeps what it was made with."""

    def __init__(self, *arguments, **options):
        super().__init__(arguments=arguments, **options)


class StandInConfiguration(Recorded):
    def perform(self, context):
        return context[self.arguments[0]]


@pytest.fixture
def description(monkeypatch):
    """What the launch file describes, with stand-ins for ROS's launch."""
    parts = {
        "launch": ["LaunchContext", "LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument", "OpaqueFunction"],
        "launch.substitutions": ["LaunchConfiguration", "PathJoinSubstitution"],
        "launch_ros": [],
        "launch_ros.actions": ["Node"],
        "launch_ros.substitutions": ["FindPackageShare"],
    }
    for name, classes in parts.items():
        module = ModuleType(name)
        for each in classes:
            setattr(module, each, type(each, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["launch.substitutions"].LaunchConfiguration = StandInConfiguration
    return runpy.run_path(str(FILE))["generate_launch_description"]()


def started(description, **given):
    """The node that is started with these arguments."""
    (entities,) = description.arguments
    defaults = {
        each.arguments[0]: each.default_value for each in entities if hasattr(each, "default_value")
    }
    (opaque,) = (each for each in entities if hasattr(each, "function"))
    (node,) = opaque.function({**defaults, **given})
    return node


def test_every_argument_is_declared_and_described(description):
    (entities,) = description.arguments
    declared = {e.arguments[0]: e.description for e in entities if hasattr(e, "description")}
    assert set(declared) == ARGUMENTS
    assert all(len(text) > 10 for text in declared.values())


def test_the_node_is_the_program_that_the_package_installs(description):
    node = started(description)
    assert (node.package, node.executable) == ("key2mesh_ros", "mesh_node")
    assert (FILE.parents[1] / "tools" / "nodes" / node.executable).is_file()
    assert [source for source, _ in node.remappings] == ["~/keypoints", "~/camera_info"]


def test_only_given_arguments_override_the_parameter_file(description):
    assert len(started(description).parameters) == 1
    _, overrides = started(description, model="/x", publish_vertices="False").parameters
    assert overrides == {"model": "/x", "publish_vertices": False}


def test_nothing_heavy_is_imported():
    allowed = {"launch", "launch_ros"}
    for node in ast.walk(ast.parse(FILE.read_text())):
        if isinstance(node, ast.Import):
            assert {each.name.split(".")[0] for each in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] in allowed


@pytest.mark.skipif(find_spec("launch_ros") is None, reason="launch_ros comes with ROS only")
def test_ros_accepts_the_description():
    from launch.actions import DeclareLaunchArgument

    from launch import LaunchContext

    description = runpy.run_path(str(FILE))["generate_launch_description"]()
    declared = [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]
    assert {each.name for each in declared} == ARGUMENTS
    context = LaunchContext()
    for each in declared:
        if each.name != "params_file":  # needs the installed package
            each.execute(context)
    context.launch_configurations["params_file"] = str(FILE.parents[1] / "config" / "mesh.yaml")
    (action,) = (e for e in description.entities if not isinstance(e, DeclareLaunchArgument))
    assert action.execute(context)
