# SPDX-License-Identifier: Apache-2.0
"""Key2Mesh: body meshes in metres from 2D keypoints. Nothing in here imports ROS.

Import what you need from the modules: this file stays empty of them, so that a robot
that imports the estimator never loads the training half.
"""

__version__ = "0.1.0"
