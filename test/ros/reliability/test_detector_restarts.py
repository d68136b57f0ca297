# SPDX-License-Identifier: Apache-2.0
"""A detector that is killed and started again: meshes must follow each start.

Its process gets SIGKILL, so the middleware is not told.
"""

import random
import subprocess
import sys
import time

import numpy as np
from helpers_ros import client, node_process, people, standing
from rclpy.serialization import serialize_message

DETECTOR = """
import sys, time
import rclpy
from key2mesh_ros.msg import PersonKeypointsArray
from rclpy.serialization import deserialize_message
from rclpy.qos import qos_profile_sensor_data
rclpy.init()
node = rclpy.create_node("detector")
publisher = node.create_publisher(
    PersonKeypointsArray, "/mesh_node/keypoints", qos_profile_sensor_data)
message = deserialize_message(bytes.fromhex(sys.argv[1]), PersonKeypointsArray)
while True:
    message.header.stamp = node.get_clock().now().to_msg()
    publisher.publish(message)
    time.sleep(1 / 30)
"""


def test_meshes_follow_every_start_of_a_detector(bundle, tmp_path, amount):
    moments = random.Random(0)
    with node_process(tmp_path / "log", model=bundle) as node, client() as probe:
        for number in range(amount(2, 50)):
            name, message = f"detector_{number}", people(standing())
            message.header.frame_id = name
            seen = serialize_message(message).hex()
            process = subprocess.Popen([sys.executable, "-c", DETECTOR, seen])

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
