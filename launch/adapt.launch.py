# SPDX-License-Identifier: Apache-2.0
"""Adapts a model to recorded detections of the robot's own detector, then ends.

    ros2 launch key2mesh_ros adapt.launch.py target:=bag:/data/monday \\
        topic:=/detector/keypoints output:=/data/models/monday

Runs `adapt_bag`, which is `key2mesh adapt` (`ros2 run key2mesh_ros adapt_bag --help` lists all of
its options). Given again, the same line continues what was interrupted.
"""

import shlex

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import ExecutableInPackage

from launch import LaunchContext, LaunchDescription

# Options of `key2mesh adapt` by the arguments' names; those left empty keep their defaults.
ARGUMENTS = {
    "target": "Detections to adapt to: bag:PATH, openpose:FOLDER, ...; several between spaces.",
    "output": "Folder of the adapted model bundle, for model:=... of mesh.launch.py.",
    "topic": "The keypoints' topic in bags.",
    "init": "The model to start from: 'default' or a bundle's folder.",
    "recipe": "'default', what measured best, or 'paper', the published method.",
    "motions": "Motion capture in AMASS layout; several folders between spaces. Not needed.",
}


def start_adapting(context: LaunchContext) -> list:
    """The program with what the arguments say, which are text only now."""
    options = []
    for name in ARGUMENTS:
        if values := shlex.split(LaunchConfiguration(name).perform(context)):
            options += [f"--{name}", *values]
    options += shlex.split(LaunchConfiguration("options").perform(context))
    program = ExecutableInPackage("adapt_bag", "key2mesh_ros")
    return [ExecuteProcess(cmd=[program, *options], output="screen")]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    needed = ("target", "output")
    arguments = [
        DeclareLaunchArgument(
            name, default_value=None if name in needed else "", description=description
        )
        for name, description in ARGUMENTS.items()
    ]
    more = DeclareLaunchArgument(
        "options", default_value="", description="More options, as on a command line."
    )
    return LaunchDescription([*arguments, more, OpaqueFunction(function=start_adapting)])
