# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: one frozen dataclass, their ROS descriptors, and the checks of changes.

Descriptors, ranges and defaults come from the dataclass; a test compares `config/mesh.yaml` with
it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from key2mesh_core.camera.choose import CameraOptions
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.keypoints.arrays import MINIMUM_KEYPOINTS
from key2mesh_core.keypoints.table import REQUIRED
from key2mesh_core.model.estimator import BACKENDS
from key2mesh_core.people.messages import DETECTORS

ANY_TIME = "any time"
UNCONFIGURED = "only while the node is unconfigured"
START = "only at start"

INPUT_TYPES = ("auto", *DETECTORS)

SHORTEST_BODY_M = 0.5
"""Shortest plausible body height [m]; a smaller number is probably in another unit."""


class ParameterError(Key2MeshError):
    """A parameter's value that the node cannot work with."""


def _parameter(
    default: Any,
    text: str,
    limits: tuple[float, float] | None = None,
    *,
    change: str = ANY_TIME,
    choices: tuple[str, ...] = (),
) -> Any:
    about = {"text": text, "change": change, "limits": limits, "choices": choices}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Parameters:
    """Every parameter of the node with its default. The fields' metadata hold descriptions, ranges
    and when a parameter may change.

    Raises:
        ParameterError: a value is outside its range; names the parameter, the value and the range.
    """

    model: str = _parameter(
        "default",
        "Model bundle: 'default' for the one in the package, or a folder's path.",
        change=UNCONFIGURED,
    )
    backend: str = _parameter(
        "auto",
        "Inference engine: 'auto' takes the fastest that is ready on this machine.",
        change=UNCONFIGURED,
        choices=BACKENDS,
    )
    threads: int = _parameter(
        2, "CPU threads for frames with more than a few people.", (1, 64), change=UNCONFIGURED
    )
    gpu_fp16: bool = _parameter(
        False,
        "With ONNX Runtime on a GPU: multiply hidden layers in 16-bit floats.",
        change=UNCONFIGURED,
    )
    gpu_cuda_graphs: bool = _parameter(
        False,
        "With ONNX Runtime on a GPU: capture runs of up to 8 people as CUDA graphs.",
        change=UNCONFIGURED,
    )
    autostart: bool = _parameter(
        True, "Configure and activate at start, without a lifecycle manager.", change=START
    )
    input_type: str = _parameter(
        "auto",
        "The detector's messages: "
        + ", ".join(f"'{each.name}' ({each.title})" for each in DETECTORS.values())
        + "; 'auto' follows the published type.",
        change=UNCONFIGURED,
        choices=INPUT_TYPES,
    )
    publish_vertices: bool = _parameter(
        True, "Publish each body's vertices; without them a frame costs less."
    )
    max_people: int = _parameter(
        32, "Maximum number of people per frame; those with the largest boxes are kept.", (1, 1024)
    )
    min_keypoints: int = _parameter(
        MINIMUM_KEYPOINTS,
        "Leave out people with fewer usable keypoints.",
        (MINIMUM_KEYPOINTS, REQUIRED),
    )
    horizontal_fov_deg: float = _parameter(
        60.0,
        "Field of view [degrees] assumed while neither CameraInfo nor camera_fx is known.",
        (1.0, 179.0),
    )
    camera_fx: float = _parameter(
        0.0, "Focal length [px], used instead of CameraInfo; 0: not stated.", (0.0, 1e6)
    )
    camera_fy: float = _parameter(
        0.0, "Vertical focal length [px]; 0: the same as camera_fx.", (0.0, 1e6)
    )
    camera_cx: float = _parameter(0.0, "Principal point [px]; 0: the image centre.", (0.0, 1e6))
    camera_cy: float = _parameter(0.0, "Principal point [px]; 0: the image centre.", (0.0, 1e6))
    image_width: int = _parameter(
        0,
        "Width [px] of the detector's image, if neither its messages nor CameraInfo give it; "
        "0: not known.",
        (0, 65535),
    )
    image_height: int = _parameter(0, "Height [px] of the detector's image, likewise.", (0, 65535))
    camera_info_timeout: float = _parameter(
        1.0,
        "How long [s] the first frames wait for CameraInfo, if it has a publisher, before the node "
        "assumes the field of view.",
        (0.0, 60.0),
    )
    image_rectified: bool = _parameter(
        False,
        "The detector sees rectified images (image_rect): use CameraInfo's P, and do not undo "
        "distortion.",
    )
    body_height: float = _parameter(
        0.0,
        "Height [m] of everybody in view; sets the scale of bodies and distances; 0: not known.",
        (0.0, 2.5),
    )
    camera_height: float = _parameter(
        0.0,
        "Height [m] of the camera above the floor that people stand on; sets the scale from their "
        "feet; 0: not known.",
        (0.0, 100.0),
    )
    camera_pitch_deg: float = _parameter(
        0.0, "With camera_height: downward pitch of the camera [degrees].", (-90.0, 90.0)
    )
    camera_roll_deg: float = _parameter(
        0.0,
        "With camera_height: clockwise roll of the camera about its viewing direction [degrees].",
        (-180.0, 180.0),
    )
    depth: str = _parameter(
        "none",
        "Measured depth that sets the scale: an 'image' on ~/depth or a point 'cloud' on ~/points.",
        change=UNCONFIGURED,
        choices=("none", "image", "cloud"),
    )
    depth_max_age: float = _parameter(
        0.1, "Largest difference [s] between the stamps of depth and keypoints.", (0.001, 10.0)
    )
    smoothing: bool = _parameter(
        True, "Smooth each person's pose, position and shape over time; adds no delay."
    )
    track_timeout: float = _parameter(
        1.0,
        "How long [s] an unseen person keeps their name (where the detector gives none) and "
        "filter state.",
        (0.05, 60.0),
    )
    min_quality: float = _parameter(
        0.0, "Leave out bodies of lower quality; 0: publish all.", (0.0, 1.0)
    )
    tf_prefix: str = _parameter(
        "body_",
        "A body's TF frame is the node's namespace, this prefix and the body's id; a "
        "leading '/' leaves out the namespace; empty: no TF.",
        change=UNCONFIGURED,
    )
    marker_color: tuple[float, ...] = _parameter(
        (0.55, 0.75, 0.95, 1.0),
        "Colour of the markers: red, green, blue, opacity, each within 0 and 1.",
    )
    diagnostics_period: float = _parameter(
        1.0, "Seconds between diagnostics messages.", (0.1, 60.0), change=START
    )

    @cached_property
    def camera(self) -> CameraOptions:
        """What the parameters state about the camera. Values that require fx are ignored without
        it, because parameters may be set one at a time."""
        fx, size = self.camera_fx, (self.image_width, self.image_height)
        return CameraOptions(
            fx=fx,
            fy=self.camera_fy if fx else 0.0,
            cx=self.camera_cx if fx else 0.0,
            cy=self.camera_cy if fx else 0.0,
            assumed_fov_deg=self.horizontal_fov_deg,
            image_size=size if all(size) else (0, 0),
            rectified=self.image_rectified,
        )

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            limits, choices = each.metadata["limits"], each.metadata["choices"]
            if choices and value not in choices:
                raise ParameterError(
                    f"{each.name} must be one of {', '.join(choices)}, got '{value}'"
                )
            if limits and not limits[0] <= value <= limits[1]:
                raise ParameterError(
                    f"{each.name} must lie within {limits[0]:g} and {limits[1]:g}, got {value}"
                )
        if 0 < self.body_height < SHORTEST_BODY_M:
            raise ParameterError(
                f"body_height must be 0 (not known) or at least {SHORTEST_BODY_M} m, got "
                f"{self.body_height}"
            )
        if not self.model:
            raise ParameterError("model must be 'default' or a folder's path, got ''")
        colour = self.marker_color
        if len(colour) != 4 or not all(math.isfinite(v) and 0 <= v <= 1 for v in colour):
            raise ParameterError(
                f"marker_color must be four numbers within 0 and 1, got {list(colour)}"
            )


def descriptor(parameter: Field[Any]) -> ParameterDescriptor:
    """What `ros2 param describe` shows of one field of `Parameters`."""
    about, choices = parameter.metadata, parameter.metadata["choices"]
    result = ParameterDescriptor(
        name=parameter.name,
        description=f"{about['text']} May change {about['change']}.",
        additional_constraints=f"One of {', '.join(choices)}." if choices else "",
        read_only=about["change"] == START,
    )
    if about["limits"]:
        low, high = about["limits"]
        if isinstance(parameter.default, int):
            result.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
        else:
            result.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return result


def declare(node: Node) -> Parameters:
    """Declare every parameter on `node`; return their values, overrides included.

    Logs a warning for each unknown parameter that the node was given.

    Args:
        node: made with `automatically_declare_parameters_from_overrides=True`, so that rclpy
            reveals the parameters that the node was given.

    Raises:
        ParameterError: the node cannot work with a value.
        rclpy.exceptions.ParameterException: a value has the wrong type or is outside its range.
    """
    values = {}
    for each in fields(Parameters):
        if node.has_parameter(each.name):  # declared from an override, without descriptor
            node.undeclare_parameter(each.name)
        default = list(each.default) if isinstance(each.default, tuple) else each.default
        declared = node.declare_parameter(each.name, default, descriptor(each))
        values[each.name] = _from_ros(declared.value)
    for name in sorted(set(node.get_parameters_by_prefix("")) - set(values)):
        if name not in _RCLPY and not name.startswith("qos_overrides."):
            node.undeclare_parameter(name)
            near = difflib.get_close_matches(name, values, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            node.get_logger().warning(f"{node.get_name()} has no parameter '{name}'{hint}")
    return Parameters(**values)


_RCLPY = ("use_sim_time", "start_type_description_service")
"""Parameters that rclpy declares on every node."""


def change(current: Parameters, changes: Iterable[Parameter], unconfigured: bool) -> Parameters:
    """The parameters after `changes`; other parameters (use_sim_time) are ignored.

    Raises:
        ParameterError: the node cannot work with a value, or the parameter may not change now.
    """
    known = {each.name: each for each in fields(Parameters)}
    values = {}
    for parameter in changes:
        if parameter.name not in known:
            continue
        value = values[parameter.name] = _from_ros(parameter.value)
        fixed = known[parameter.name].metadata["change"] == UNCONFIGURED and not unconfigured
        if fixed and value != getattr(current, parameter.name):
            raise ParameterError(
                f"{parameter.name} may change only while the node is unconfigured: "
                f"deactivate and clean it up, set '{parameter.name}', configure it again"
            )
    return replace(current, **values)


def _from_ros(value: Any) -> Any:
    # Arrays of doubles arrive as array.array; tuples compare and print well.
    return value if isinstance(value, bool | int | float | str) else tuple(value)
