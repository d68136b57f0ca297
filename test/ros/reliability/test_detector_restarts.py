# SPDX-License-Identifier: Apache-2.0
"""A detector that is killed and started again: meshes must follow each start.

Its process gets SIGKILL, so the middleware is not told.
"""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from helpers_ros import client, node_process

DETECTOR = f"""
import sys, time
sys.path.append({str(Path(__file__).parents[2])!r})
import rclpy
from helpers_ros import people, standing
from key2mesh_ros.msg import PersonKeypointsArray
from rclpy.qos import qos_profile_sensor_data
rclpy.init()
node = rclpy.create_node("detector")
publisher = node.create_publisher(
    PersonKeypointsArray, "/mesh_node/keypoints", qos_profile_sensor_data)
while True:
    message = people(standing())
    message.header.frame_id = sys.argv[1]
    publisher.publish(message)
    time.sleep(1 / 30)
"""


def test_meshes_follow_every_start_of_a_detector(bundle, tmp_path, amount):
    moments = random.Random(0)
    with node_process(tmp_path / "log", model=bundle) as node, client() as probe:
        for number in range(amount(2, 50)):
            name = f"detector_{number}"
            process = subprocess.Popen([sys.executable, "-c", DETECTOR, name])

            def five_meshes(name=name):
                return sum(each.header.frame_id == name for each in probe.meshes) >= 5

            try:
                probe.wait(five_meshes, f"meshes of {name}", seconds=30)
                for each in probe.meshes:
                    assert len(each.bodies) == 1
                    assert np.isfinite(each.bodies[0].joints).all()
                probe.meshes.clear()
                time.sleep(moments.uniform(0.0, 0.3))
            finally:
                process.kill()
                process.wait()
        assert node.running()
