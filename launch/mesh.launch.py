# SPDX-License-Identifier: Apache-2.0
"""Starts mesh_node, which configures and activates itself; a viewer and RViz if asked for.

    ros2 launch key2mesh_ros mesh.launch.py keypoints:=/detector/keypoints \\
        camera_info:=/camera/camera_info

`ros2 launch key2mesh_ros mesh.launch.py --show-args` lists the arguments; docs/robot.md has the
line for each detector.
"""

from collections.abc import Callable
from typing import Any

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

from launch import LaunchContext, LaunchDescription

# Topics of the node, by the argument that says where they are, and what they are.
TOPICS = {
    "keypoints": "Topic of the detector, of any of the types that input_type names.",
    "camera_info": "Topic of the camera's sensor_msgs/CameraInfo.",
    "depth_topic": "Topic of the depth image, where depth is 'image'.",
    "points_topic": "Topic of the point cloud, where depth is 'cloud'.",
}
NAMES = {"depth_topic": "depth", "points_topic": "points"}


def truth(text: str) -> bool:
    """Of 'true' or 'false'; raises KeyError for anything else."""
    return {"true": True, "false": False}[text.lower()]


# Given arguments of these names override the parameter file; empty ones leave it as it is.
PARAMETERS = {
    "input_type": ("The detector's messages: 'auto', 'key2mesh', 'yolo', 'hri' or 'zed'.", str),
    "model": ("Model bundle: 'default' or a folder's path.", str),
    "backend": ("Engine that runs the model: 'auto', 'onnx', ...", str),
    "publish_vertices": ("Whether to publish the mesh's points: 'true' or 'false'.", truth),
    "image_width": ("Width [px] of the detector's image, where nothing says it.", int),
    "image_height": ("Height [px] of the detector's image, where nothing says it.", int),
    "image_rectified": ("Whether the detector sees rectified images: 'true' or 'false'.", truth),
    "body_height": ("Height [m] of everybody in view, where it is known.", float),
    "smoothing": ("Whether to steady bodies over time: 'true' or 'false'.", truth),
    "depth": ("Measured distances that set the scale: 'none', 'image' or 'cloud'.", str),
}


def start_nodes(context: LaunchContext) -> list:
    """The node with what the arguments say, which are text only now, and what shows its meshes."""

    def said(name: str, kind: Callable = str) -> Any:
        text = LaunchConfiguration(name).perform(context)
        try:
            return kind(text)
        except (KeyError, ValueError):
            kinds = {truth: "'true' or 'false'", int: "a whole number", float: "a number"}
            raise RuntimeError(f"{name}:={text} must be {kinds[kind]}") from None

    given = {name: kind for name, (_, kind) in PARAMETERS.items() if said(name)}
    overrides = {name: said(name, kind) for name, kind in given.items()}
    node = Node(
        package="key2mesh_ros",
        executable="mesh_node",
        name="mesh_node",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[LaunchConfiguration("params_file"), *([overrides] if overrides else [])],
        remappings=[(f"~/{NAMES.get(name, name)}", LaunchConfiguration(name)) for name in TOPICS],
    )
    namespace = said("namespace").strip("/")
    base = f"/{namespace}/mesh_node" if namespace else "/mesh_node"
    actions = [node]
    if said("viewer", truth):
        camera = said("camera_info").replace("~", base, 1)
        actions.append(
            ExecuteProcess(
                cmd=[
                    ExecutableInPackage("key2mesh", "key2mesh_ros"),
                    *("view", "--topic", f"{base}/meshes", "--camera-topic", camera),
                ],
                output="screen",
            )
        )
    if said("rviz", truth):
        actions.append(
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", LaunchConfiguration("rviz_config"), "-f", said("frame")],
                remappings=[("/mesh_node/markers", f"{base}/markers")],
            )
        )
    return actions


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""

    def config(name: str) -> PathJoinSubstitution:
        return PathJoinSubstitution([FindPackageShare("key2mesh_ros"), "config", name])

    others = {
        "namespace": ("", "Namespace of the node."),
        "params_file": (config("mesh.yaml"), "Parameter file (YAML)."),
        "viewer": ("false", "Whether to show the meshes in a browser: 'true' or 'false'."),
        "rviz": ("false", "Whether to start RViz: 'true' or 'false'."),
        "rviz_config": (config("mesh.rviz"), "RViz's configuration."),
        "frame": ("camera", "RViz's fixed frame: the optical frame of the camera."),
    }
    arguments = [
        *(
            DeclareLaunchArgument(
                name, default_value=f"~/{NAMES.get(name, name)}", description=text
            )
            for name, text in TOPICS.items()
        ),
        *(
            DeclareLaunchArgument(name, default_value=default, description=text)
            for name, (default, text) in others.items()
        ),
        *(
            DeclareLaunchArgument(name, default_value="", description=text)
            for name, (text, _) in PARAMETERS.items()
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_nodes)])
