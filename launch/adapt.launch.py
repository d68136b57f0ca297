# SPDX-License-Identifier: Apache-2.0
"""Adapts a model to recorded detections of the robot's own detector.

    ros2 launch key2mesh_ros adapt.launch.py target:=bag:/data/monday \\
        topic:=/detector/keypoints output:=/data/models/monday

Runs `adapt_bag`, which is `key2mesh adapt`; `ros2 run key2mesh_ros adapt_bag --help` lists all of
its options. The same command resumes an adaptation that was interrupted.
"""

import shlex

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch_ros.substitutions import ExecutableInPackage

from key2mesh_ros.launching import refuse_unknown, value_of
from launch import LaunchContext, LaunchDescription

# Options of `key2mesh adapt` by the arguments' names; empty ones keep their defaults.
ARGUMENTS = {
    "target": "Detections to adapt to: bag:PATH, openpose:FOLDER, ...; separate several by spaces.",
    "output": "Folder of the adapted model bundle, for model:=... of mesh.launch.py.",
    "topic": "Topic of the keypoints in bags.",
    "init": "Model to start from: 'default' or the folder of a bundle.",
    "recipe": "'default', which measured best, or 'paper', the published method.",
    "motions": "Motion capture in AMASS layout; separate several folders by spaces. Optional.",
}


def start_adapting(context: LaunchContext) -> list:
    """The program with the given arguments."""
    refuse_unknown(context, __file__, (*ARGUMENTS, "options"))
    options = []
    for name in ARGUMENTS:
        if values := shlex.split(value_of(context, name)):
            options += [f"--{name}", *values]
    options += shlex.split(value_of(context, "options"))
    program = ExecutableInPackage("adapt_bag", "key2mesh_ros")
    return [ExecuteProcess(cmd=[program, *options], output="screen")]


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`."""
    needed = ("target", "output")
    arguments = [
        DeclareLaunchArgument(name, default_value=None if name in needed else "", description=text)
        for name, text in {**ARGUMENTS, "options": "More options, as on a command line."}.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_adapting)])
