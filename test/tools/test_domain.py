# SPDX-License-Identifier: Apache-2.0
"""Programs that claim a domain do not hear one another."""

import json
import os
import subprocess
import sys

PROGRAM = """
import json, sys, time
from tools.domain import claim_domain
domain = claim_domain()
import rclpy
from std_msgs.msg import String
rclpy.init()
node, heard = rclpy.create_node("program"), set()
publisher = node.create_publisher(String, "/shared_topic", 10)
node.create_subscription(String, "/shared_topic", lambda message: heard.add(message.data), 10)
print("ready", flush=True)
sys.stdin.readline()
end = time.monotonic() + 2
while time.monotonic() < end:
    publisher.publish(String(data=str(domain)))
    rclpy.spin_once(node, timeout_sec=0.05)
print(json.dumps([domain, sorted(heard)]), flush=True)
"""


def start():
    environment = {k: v for k, v in os.environ.items() if k != "ROS_DOMAIN_ID"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_two_programs_at_once_hear_only_themselves():
    programs = [start(), start()]
    try:
        for program in programs:
            assert program.stdout.readline() == "ready\n"
        for program in programs:
            program.stdin.write("\n")
            program.stdin.flush()
        results = [json.loads(program.communicate(timeout=60)[0]) for program in programs]
    finally:
        for program in programs:
            program.kill()
            program.wait()
    (first, heard_by_first), (second, heard_by_second) = results
    assert first != second
    assert heard_by_first == [str(first)]
    assert heard_by_second == [str(second)]


def test_a_domain_that_is_set_is_kept():
    from tools.domain import claim_domain

    environment = {"ROS_DOMAIN_ID": "7"}
    assert claim_domain(environment) == 7
    assert environment["ROS_DOMAIN_ID"] == "7"
