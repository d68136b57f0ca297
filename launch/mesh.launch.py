# SPDX-License-Identifier: Apache-2.0
"""Starts mesh_node, which configures and activates itself, and, on request, a viewer and RViz.

    ros2 launch key2mesh_ros mesh.launch.py keypoints:=/detector/keypoints \\
        camera_info:=/camera/camera_info

`ros2 launch key2mesh_ros mesh.launch.py --show-args` lists the arguments; docs/robot.md has the
line for each detector.
"""

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

from key2mesh_ros.launching import refuse_unknown, truth, value_of
from launch import LaunchContext, LaunchDescription

# The node's topics, by launch argument.
TOPICS = {
    "keypoints": "Topic of the detector's keypoints.",
    "camera_info": "Topic of the camera's sensor_msgs/CameraInfo.",
    "depth_topic": "Topic of the depth image, where depth is 'image'.",
    "points_topic": "Topic of the point cloud, where depth is 'cloud'.",
}
NAMES = {"depth_topic": "depth", "points_topic": "points"}

# These arguments override the parameter file; empty ones do not.
PARAMETERS = {
    "input_type": ("The detector: 'auto', or its name in the table of docs/robot.md.", str),
    "model": ("Model bundle: 'default' or a folder's path.", str),
    "backend": ("Engine: 'auto', 'onnx', 'tensorrt' or 'onnxruntime-gpu'.", str),
    "publish_vertices": ("Publish vertices: 'true' or 'false'.", truth),
    "image_width": ("Width [px] of the detector's image, if nothing else provides it.", int),
    "image_height": ("Height [px] of the detector's image, if nothing else provides it.", int),
    "image_rectified": ("The detector sees rectified images: 'true' or 'false'.", truth),
    "body_height": ("Height [m] of everybody in view, if known.", float),
    "smoothing": ("Smooth bodies over time: 'true' or 'false'.", truth),
    "depth": ("Measured depth that sets the scale: 'none', 'image' or 'cloud'.", str),
    "tf_prefix": ("Prefix of the bodies' TF frames; '/body_' leaves out the namespace.", str),
    "use_sim_time": ("Take the time from /clock: 'true' or 'false'.", truth),
}


def start_nodes(context: LaunchContext) -> list:
    """The node with the given arguments, the viewer and RViz."""
    refuse_unknown(context, __file__, (*TOPICS, *PARAMETERS, *OTHERS))
    given = {name: kind for name, (_, kind) in PARAMETERS.items() if value_of(context, name)}
    overrides = {name: value_of(context, name, kind) for name, kind in given.items()}
    node = Node(
        package="key2mesh_ros",
        executable="mesh_node",
        name="mesh_node",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[LaunchConfiguration("params_file"), *([overrides] if overrides else [])],
        remappings=[(f"~/{NAMES.get(name, name)}", LaunchConfiguration(name)) for name in TOPICS],
    )
    namespace = value_of(context, "namespace").strip("/")
    base = f"/{namespace}/mesh_node" if namespace else "/mesh_node"
    actions = [node]
    if value_of(context, "viewer", truth):
        program = ExecutableInPackage("key2mesh", "key2mesh_ros")
        camera = value_of(context, "camera_info").replace("~", base, 1)
        options = ["--topic", f"{base}/meshes", "--camera-topic", camera]
        actions.append(ExecuteProcess(cmd=[program, "view", *options], output="screen"))
    if value_of(context, "rviz", truth):
        frame, simulated = value_of(context, "frame"), overrides.get("use_sim_time", False)
        actions.append(
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", LaunchConfiguration("rviz_config"), "-f", frame],
                parameters=[{"use_sim_time": simulated}],
                remappings=[("/mesh_node/markers", f"{base}/markers")],
            )
        )
    return actions


def config(name: str) -> PathJoinSubstitution:
    """The path of an installed configuration file."""
    return PathJoinSubstitution([FindPackageShare("key2mesh_ros"), "config", name])


OTHERS = {
    "namespace": ("", "Namespace of the node; part of its topics and of the bodies' TF frames."),
    "params_file": (config("mesh.yaml"), "Parameter file (YAML)."),
    "viewer": ("false", "Show the meshes in a browser: 'true' or 'false'."),
    "rviz": ("false", "Start RViz: 'true' or 'false'."),
    "rviz_config": (config("mesh.rviz"), "Configuration of RViz."),
    "frame": ("camera", "Fixed frame of RViz: the optical frame of the camera."),
}


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    known = {
        **{name: (f"~/{NAMES.get(name, name)}", text) for name, text in TOPICS.items()},
        **OTHERS,
        **{name: ("", text) for name, (text, _) in PARAMETERS.items()},
    }
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in known.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_nodes)])
