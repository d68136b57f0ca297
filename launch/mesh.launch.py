# SPDX-License-Identifier: Apache-2.0
"""Starts mesh_node, which configures and activates itself.

    ros2 launch key2mesh_ros mesh.launch.py keypoints:=/detector/keypoints \\
        camera_info:=/camera/camera_info

`ros2 launch key2mesh_ros mesh.launch.py --show-args` lists the arguments.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

# Given arguments of these names override the parameter file; empty ones leave it as it is.
PARAMETERS = {
    "model": ("Model bundle: 'default' or a folder's path.", str),
    "backend": ("Engine: 'auto' or 'onnx'.", str),
    "publish_vertices": (
        "Whether to publish the mesh's points: 'true' or 'false'.",
        lambda text: {"true": True, "false": False}[text.lower()],
    ),
}


def start_node(context: LaunchContext) -> list[Node]:
    """The node with what the arguments say; they are text only now."""
    given = {name: LaunchConfiguration(name).perform(context) for name in PARAMETERS}
    overrides = {name: PARAMETERS[name][1](text) for name, text in given.items() if text}
    node = Node(
        package="key2mesh_ros",
        executable="mesh_node",
        name="mesh_node",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[LaunchConfiguration("params_file"), *([overrides] if overrides else [])],
        remappings=[
            ("~/keypoints", LaunchConfiguration("keypoints")),
            ("~/camera_info", LaunchConfiguration("camera_info")),
        ],
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    default_file = PathJoinSubstitution([FindPackageShare("key2mesh_ros"), "config", "mesh.yaml"])
    arguments = [
        DeclareLaunchArgument(
            "keypoints",
            default_value="~/keypoints",
            description="Topic of the detector's key2mesh_ros/PersonKeypointsArray.",
        ),
        DeclareLaunchArgument(
            "camera_info",
            default_value="~/camera_info",
            description="Topic of the camera's sensor_msgs/CameraInfo.",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
        DeclareLaunchArgument(
            "params_file", default_value=default_file, description="Parameter file (YAML)."
        ),
        *(
            DeclareLaunchArgument(name, default_value="", description=text)
            for name, (text, _) in PARAMETERS.items()
        ),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_node)])
