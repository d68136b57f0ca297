# SPDX-License-Identifier: Apache-2.0
"""Parameters: the file, the dataclass and the node agree, and wrong values are refused."""

import math
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from key2mesh_ros.parameters import (
    START,
    UNCONFIGURED,
    ParameterError,
    Parameters,
    change,
    declare,
    descriptor,
)

CONFIG = Path(__file__).parents[2] / "config" / "mesh.yaml"
NAMES = [each.name for each in fields(Parameters)]


def declared(arguments=(), **values):
    """Parameters of a node with command line `arguments` and overrides."""
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    node = Node(
        "some_node",
        parameter_overrides=overrides,
        cli_args=["--ros-args", *arguments],
        automatically_declare_parameters_from_overrides=True,
    )
    try:
        result = declare(node)
        assert set(node.get_parameters_by_prefix("")) - {*NAMES} <= {
            "use_sim_time",
            "start_type_description_service",
        }
        return result
    finally:
        node.destroy_node()


def test_the_parameter_file_holds_every_parameter_with_its_default():
    documents = yaml.safe_load(CONFIG.read_text())
    values = documents["/**"]["ros__parameters"]
    assert list(values) != []
    assert set(values) == set(NAMES)
    defaults = {name: getattr(Parameters(), name) for name in NAMES}
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()} == defaults
    assert {k: type(v) for k, v in values.items() if k != "marker_color"} == {
        k: type(v) for k, v in defaults.items() if k != "marker_color"
    }


def test_the_parameter_file_is_one_that_ros_reads_into_the_defaults():
    assert declared(["--params-file", str(CONFIG)]) == Parameters()


def test_without_any_setting_the_node_has_the_defaults():
    assert declared() == Parameters()


def test_settings_from_outside_arrive():
    parameters = declared(model="/x", threads=4, marker_color=[0.0, 0.5, 1.0, 0.25])
    assert parameters == Parameters(model="/x", threads=4, marker_color=(0.0, 0.5, 1.0, 0.25))


@pytest.mark.parametrize("each", fields(Parameters), ids=NAMES)
def test_every_parameter_describes_itself(each):
    described = descriptor(each)
    assert described.name == each.name
    assert len(described.description) > 20
    assert each.metadata["change"] in described.description
    assert described.read_only == (each.metadata["change"] == START)
    limits = each.metadata["limits"]
    ranges = [*described.integer_range, *described.floating_point_range]
    assert [(r.from_value, r.to_value) for r in ranges] == ([limits] if limits else [])
    if isinstance(each.default, bool | str | tuple):
        assert limits is None
    else:
        assert limits is not None


@pytest.mark.parametrize(
    "values",
    [
        {"threads": 0},
        {"threads": 65},
        {"max_people": 0},
        {"min_keypoints": 5},
        {"min_keypoints": 19},
        {"horizontal_fov_deg": 180.0},
        {"horizontal_fov_deg": math.nan},
        {"camera_fx": -1.0},
        {"camera_cx": math.inf},
        {"backend": "abacus"},
        {"model": ""},
        {"input_type": "telepathy"},
        {"depth": "deep"},
        {"body_height": 0.4},
        {"body_height": 170.0},
        {"camera_height": -1.0},
        {"camera_pitch_deg": 91.0},
        {"depth_max_age": 0.0},
        {"marker_color": (1.0, 1.0, 1.0)},
        {"marker_color": (1.0, 1.0, 1.0, 1.1)},
        {"marker_color": (math.nan, 1.0, 1.0, 1.0)},
        {"diagnostics_period": 0.0},
    ],
    ids=str,
)
def test_wrong_values_are_refused_by_name_everywhere(values):
    ((name, value),) = values.items()
    with pytest.raises(ParameterError, match=name):
        Parameters(**values)
    with pytest.raises((ParameterError, ParameterException), match=name):
        declared(**{name: list(value) if isinstance(value, tuple) else value})


@pytest.mark.parametrize(
    ("name", "said"),
    [("smothing", "did you mean 'smoothing'"), ("colour", "no parameter 'colour'")],
)
def test_a_parameter_that_does_not_exist_is_named(tmp_path, capfd, name, said):
    text = yaml.safe_dump({"/**": {"ros__parameters": {name: False, "threads": 3}}})
    (tmp_path / "mine.yaml").write_text(text)
    assert declared(["--params-file", str(tmp_path / "mine.yaml")]) == Parameters(threads=3)
    assert said in capfd.readouterr().err


def test_parameters_of_rclpy_itself_are_not_remarked_on(capfd):
    assert declared(["-p", "use_sim_time:=true"]) == Parameters()
    assert "no parameter" not in capfd.readouterr().err


def test_a_value_of_another_type_is_refused_by_name():
    with pytest.raises(ParameterException, match="horizontal_fov_deg"):
        declared(horizontal_fov_deg=60)


@pytest.mark.parametrize("each", fields(Parameters), ids=NAMES)
def test_what_may_change_when(each):
    another = {
        "model": "/x",
        "backend": "onnx",
        "gpu_fp16": True,
        "gpu_cuda_graphs": True,
        "autostart": False,
        "publish_vertices": False,
        "input_type": "yolo",
        "image_rectified": True,
        "depth": "image",
        "smoothing": False,
        "tf_prefix": "",
        "marker_color": [1.0, 0.0, 0.0, 1.0],
    }.get(each.name)
    if another is None:
        another = type(each.default)(each.metadata["limits"][1])
    wanted = [Parameter(each.name, value=another)]
    expected = tuple(another) if isinstance(another, list) else another
    assert getattr(change(Parameters(), wanted, unconfigured=True), each.name) == expected
    if each.metadata["change"] == UNCONFIGURED:
        with pytest.raises(ParameterError, match=f"{each.name}.*clean it up"):
            change(Parameters(), wanted, unconfigured=False)
    else:
        assert getattr(change(Parameters(), wanted, unconfigured=False), each.name) == expected


def test_other_nodes_parameters_pass():
    use_sim_time = Parameter("use_sim_time", value=True)
    assert change(Parameters(), [use_sim_time], unconfigured=False) == Parameters()
