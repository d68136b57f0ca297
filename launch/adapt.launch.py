# SPDX-License-Identifier: Apache-2.0
"""Adapts a model to recordings of the robot's own detector.

    ros2 launch key2mesh_ros adapt.launch.py target:=bag:/data/monday \\
        topic:=/detector/keypoints output:=/data/models/monday

Runs `adapt_bag`, which is `key2mesh adapt`; `ros2 run key2mesh_ros adapt_bag --help` lists all of
its options. The same command resumes an interrupted adaptation.
"""

import shlex

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch_ros.substitutions import ExecutableInPackage

from key2mesh_ros.launching import refuse_unknown, value_of
from launch import LaunchContext, LaunchDescription

# Options of `key2mesh adapt` with the same names; empty arguments keep the defaults.
ARGUMENTS = {
    "target": "Detections to adapt to: bag:PATH, openpose:FOLDER, ...; separated by spaces.",
    "output": "Output folder of the adapted model bundle, for model:=... of mesh.launch.py.",
    "topic": "Topic of the keypoints in bags.",
    "init": "Model to start from: 'default' or the folder of a bundle.",
    "recipe": "'default', which measured best, or 'paper', the published method.",
    "motions": "Folders of motion capture in AMASS layout, separated by spaces. Optional.",
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
        for name, text in {**ARGUMENTS, "options": "Further command line options."}.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_adapting)])
