# SPDX-License-Identifier: Apache-2.0
"""The launch files. ROS's launch exists in a ROS installation only; elsewhere small stand-ins
record what the files ask of it."""

from __future__ import annotations

import ast
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

TREE = Path(__file__).parents[2]
LAUNCH = TREE / "launch"
FILES = sorted(LAUNCH.glob("*.launch.py"))
PROGRAMS = {path.name for path in (TREE / "tools" / "nodes").iterdir()}

needs_launch = pytest.mark.skipif(
    find_spec("launch_ros") is None, reason="launch_ros comes with ROS only"
)


class Recorded(SimpleNamespace):
    """Keeps what it was made with."""

    def __init__(self, *positional, **options):
        super().__init__(positional=positional, **options)


class Context(dict):
    """What the arguments are, by name, and the words of the command line."""

    argv: tuple[str, ...] = ()


class StandInConfiguration(Recorded):
    def perform(self, context):
        return context[self.positional[0]]


@pytest.fixture
def describe(monkeypatch):
    """Makes what a launch file describes, with stand-ins for ROS's launch."""
    parts = {
        "launch": ["LaunchContext", "LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument", "ExecuteProcess", "OpaqueFunction"],
        "launch.substitutions": ["LaunchConfiguration", "PathJoinSubstitution"],
        "launch_ros": [],
        "launch_ros.actions": ["Node"],
        "launch_ros.substitutions": ["ExecutableInPackage", "FindPackageShare"],
    }
    for name, classes in parts.items():
        module = ModuleType(name)
        for each in classes:
            setattr(module, each, type(each, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["launch.substitutions"].LaunchConfiguration = StandInConfiguration
    sys.modules.pop("key2mesh_ros.launching", None)  # so that it sees the stand-ins

    def description(name: str):
        return runpy.run_path(str(LAUNCH / name))["generate_launch_description"]()

    yield description
    sys.modules.pop("key2mesh_ros.launching", None)


def declared(description) -> dict[str, Recorded]:
    (entities,) = description.positional
    return {e.positional[0]: e for e in entities if hasattr(e, "description")}


def started(description, **given) -> list[Recorded]:
    """What is started with these arguments."""
    (entities,) = description.positional
    defaults = {name: each.default_value for name, each in declared(description).items()}
    (opaque,) = (each for each in entities if hasattr(each, "function"))
    context = Context({**defaults, **given})
    context.argv = tuple(f"{name}:={value}" for name, value in given.items())
    return opaque.function(context)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_every_argument_is_described(describe, file):
    texts = [each.description for each in declared(describe(file.name)).values()]
    assert len(texts) > 5
    assert all(len(text) > 10 and text.endswith(".") for text in texts)


def test_the_node_is_the_program_that_the_package_installs(describe):
    (node,) = started(describe("mesh.launch.py"))
    assert (node.package, node.executable) == ("key2mesh_ros", "mesh_node")
    assert node.executable in PROGRAMS
    topics = {source: to.positional[0] for source, to in node.remappings}
    assert topics == {
        "~/keypoints": "keypoints",
        "~/camera_info": "camera_info",
        "~/depth": "depth_topic",
        "~/points": "points_topic",
    }


def test_its_parameters_are_the_node_s(describe):
    from dataclasses import fields

    from key2mesh_ros.parameters import Parameters

    arguments = declared(describe("mesh.launch.py"))
    known = {each.name for each in fields(Parameters)}
    empty = {name for name, each in arguments.items() if each.default_value == ""}
    assert empty - {"namespace", "use_sim_time"} <= known
    assert {"model", "backend", "input_type", "smoothing", "tf_prefix"} <= empty


def test_only_given_arguments_override_the_parameter_file(describe):
    (node,) = started(describe("mesh.launch.py"))
    assert len(node.parameters) == 1
    given = {"model": "/x", "publish_vertices": "False", "image_width": "640", "body_height": "1.7"}
    (node,) = started(describe("mesh.launch.py"), **given)
    assert node.parameters[1] == {
        "model": "/x",
        "publish_vertices": False,
        "image_width": 640,
        "body_height": 1.7,
    }


def test_simulated_time_reaches_the_node_and_rviz(describe):
    node, rviz = started(describe("mesh.launch.py"), use_sim_time="true", rviz="true")
    assert node.parameters[1] == {"use_sim_time": True}
    assert rviz.parameters == [{"use_sim_time": True}]


@pytest.mark.parametrize(
    ("file", "name", "said"),
    [
        ("mesh.launch.py", "keypoint", "'keypoints'"),
        ("mesh.launch.py", "image_with", "'image_width'"),
        ("mesh.launch.py", "colour", "camera_info"),
        ("adapt.launch.py", "topics", "'topic'"),
    ],
)
def test_an_unknown_argument_is_named_with_the_one_that_was_meant(
    describe, monkeypatch, file, name, said
):
    description = describe(file)
    given = {"target": "bag:/a", "output": "/o", name: "x"}
    if file.startswith("mesh"):
        given = {name: "x"}
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "key2mesh_ros", file])
    with pytest.raises(RuntimeError, match=rf"{file} has no argument '{name}'.*{said}"):
        started(description, **given)
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "robot", "robot.launch.py"])
    assert started(description, **given)  # the argument may be of the file that includes this one


@pytest.mark.parametrize(
    ("name", "value"), [("publish_vertices", "maybe"), ("image_width", "wide"), ("rviz", "yes")]
)
def test_a_value_that_is_none_is_refused_by_name(describe, name, value):
    with pytest.raises((RuntimeError, ValueError), match=f"{name}:={value}"):
        started(describe("mesh.launch.py"), **{name: value})


@pytest.mark.parametrize(
    ("namespace", "base"),
    [("", "/mesh_node"), ("left", "/left/mesh_node"), ("/a/b/", "/a/b/mesh_node")],
)
def test_viewer_and_rviz_look_at_the_node_s_topics(describe, namespace, base):
    given = {"viewer": "true", "rviz": "TRUE", "frame": "eye", "namespace": namespace}
    _, viewer, rviz = started(describe("mesh.launch.py"), **given)
    program, *words = viewer.cmd
    assert program.positional == ("key2mesh", "key2mesh_ros")
    assert program.positional[0] in PROGRAMS
    assert words == [
        "view", "--topic", f"{base}/meshes", "--camera-topic", f"{base}/camera_info"
    ]  # fmt: skip
    assert (rviz.package, rviz.executable) == ("rviz2", "rviz2")
    assert rviz.arguments[-2:] == ["-f", "eye"]
    assert rviz.remappings == [("/mesh_node/markers", f"{base}/markers")]


def test_the_viewer_s_options_are_the_command_s(describe):
    from key2mesh_core.cli.view import ViewConfig

    _, viewer = started(describe("mesh.launch.py"), viewer="true", camera_info="/eye/info")
    options = [word for word in viewer.cmd[1:] if str(word).startswith("--")]
    assert all(hasattr(ViewConfig, each[2:].replace("-", "_")) for each in options)
    assert viewer.cmd[-1] == "/eye/info"


def test_rviz_shows_the_markers():
    config = yaml.safe_load((TREE / "config" / "mesh.rviz").read_text())
    displays = config["Visualization Manager"]["Displays"]
    topics = {each["Class"]: each["Topic"]["Value"] for each in displays if "Topic" in each}
    assert topics == {"rviz_default_plugins/MarkerArray": "/mesh_node/markers"}


def test_adapting_runs_the_command_with_what_is_given(describe):
    description = describe("adapt.launch.py")
    needed = {n for n, each in declared(description).items() if each.default_value is None}
    assert needed == {"target", "output"}
    given = {"target": "bag:/a 'npz:/b c'", "output": "/o", "options": "--epochs 2"}
    (process,) = started(description, **given)
    program, *words = process.cmd
    assert program.positional == ("adapt_bag", "key2mesh_ros")
    assert program.positional[0] in PROGRAMS
    assert words == ["--target", "bag:/a", "npz:/b c", "--output", "/o", "--epochs", "2"]


def test_its_arguments_are_options_of_the_command(describe):
    from key2mesh_core.learning.adapt.config import AdaptConfig

    names = set(declared(describe("adapt.launch.py"))) - {"options"}
    assert all(name in AdaptConfig.__dataclass_fields__ for name in names)


def test_the_lines_of_the_pages_use_what_there_is(describe):
    pages = "\n".join(p.read_text() for p in (TREE / "README.md", *(TREE / "docs").glob("*.md")))
    lines = re.findall(
        r"ros2 launch key2mesh_ros (\S+)((?:\\\n|[^`\n])*)", pages.replace("\\\n", " ")
    )
    assert len(lines) > 6
    known = {file.name: set(declared(describe(file.name))) for file in FILES}
    for name, rest in lines:
        assert set(re.findall(r"(\w+):=", rest)) <= known[name], rest
    programs = set(re.findall(r"ros2 run key2mesh_ros (\w+)", pages))
    assert programs <= PROGRAMS | {"safety_stop"}


@pytest.mark.parametrize(
    "file", [*FILES, TREE / "key2mesh_ros" / "launching.py"], ids=lambda path: path.name
)
def test_nothing_heavy_is_imported(file):
    allowed = {"launch", "launch_ros"} | set(sys.stdlib_module_names)
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            assert {each.name.split(".")[0] for each in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom) and node.module != "key2mesh_ros.launching":
            assert node.module.split(".")[0] in allowed


# With ROS's own launch.

RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
file, *given = sys.argv[1:]
included = IncludeLaunchDescription(
    PythonLaunchDescriptionSource(file),
    launch_arguments=[tuple(each.split(":=", 1)) for each in given],
)
service = LaunchService(argv=given)
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""


@needs_launch
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_ros_accepts_the_description(file):
    from launch.actions import DeclareLaunchArgument

    description = runpy.run_path(str(file))["generate_launch_description"]()
    arguments = [e for e in description.entities if isinstance(e, DeclareLaunchArgument)]
    assert len(arguments) > 5


@needs_launch
def test_arguments_namespace_and_remapping_work_and_ctrl_c_is_clean(tmp_path, bundle):
    """As `ros2 launch` runs it, with the installed program."""
    pytest.importorskip("rclpy")
    from helpers_ros import client, people, standing

    arguments = {
        "namespace": "robot",
        "keypoints": "/detector/keypoints",
        "camera_info": "/eye/info",
        "model": str(bundle),
        "publish_vertices": "false",
        "params_file": str(TREE / "config" / "mesh.yaml"),
    }
    log = tmp_path / "log"
    words = [f"{name}:={value}" for name, value in arguments.items()]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(LAUNCH / "mesh.launch.py"), *words],
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with client("/robot/mesh_node") as camera:
            topic = camera.create_publisher(type(people()), "/detector/keypoints", 1)
            info = camera.count_subscribers
            camera.wait(lambda: camera.topologies, f"the node: {log.read_text()}", 60)
            camera.wait(lambda: info("/eye/info"), "the camera's topic to be mapped")
            limit = time.monotonic() + 20
            while not camera.meshes:
                assert time.monotonic() < limit, log.read_text()
                topic.publish(people(standing()))
                camera.spin(0.2)
            (body,) = camera.meshes[0].bodies
            assert not body.vertices
        begin = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal sends Ctrl-C
        assert process.wait(20) == 0, log.read_text()
        assert time.monotonic() - begin < 10
        assert "process has finished cleanly" in log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
