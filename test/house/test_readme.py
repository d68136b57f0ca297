# SPDX-License-Identifier: Apache-2.0
"""The README's programs run and do what it says."""

import re
import select
import subprocess
import sys
from array import array
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def program(importing: str) -> str:
    (found,) = [text for text in PROGRAMS if importing in text]
    return found


def test_the_robot_app_hears_of_a_person():
    rclpy = pytest.importorskip("rclpy")
    from key2mesh_ros.msg import BodyMesh, BodyMeshArray

    text = program("rclpy.spin")
    assert text.count("\n") <= 25
    app = subprocess.Popen(
        # -u: what it prints must not wait in a buffer, for it is never asked to end.
        [sys.executable, "-u", "-c", text],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("mesh_node", context=context)
    try:
        publisher = node.create_publisher(BodyMeshArray, "~/meshes", 5)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        for _ in range(600):
            if publisher.get_subscription_count():
                break
            executor.spin_once(timeout_sec=0.1)
            assert app.poll() is None
        joints = np.arange(72, dtype=np.float32)
        body = BodyMesh(joints=joints, vertices=array("f", [0, 0, 3.5, 0, 0, 2.25]))
        # Again and again: the subscriber may not have found the publisher yet.
        for _ in range(300):
            publisher.publish(BodyMeshArray(bodies=[body]))
            if select.select([app.stdout], [], [], 0.1)[0]:
                break
        else:
            pytest.fail("the app printed nothing for 30 s")
        line = app.stdout.readline()
    finally:
        app.kill()
        app.wait()
        app.stdout.close()
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert line == "nearest point 2.25 m, left wrist [60. 61. 62.]\n"


def test_the_numpy_program_finds_a_person(tmp_path):
    from helpers_bundle import standing_person

    eighteen = standing_person((320, 240), 300)[0]
    coco = eighteen[[0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10]]
    np.savetxt(tmp_path / "detections.txt", coco)
    result = subprocess.run(
        [sys.executable, "-c", program("np.loadtxt")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("(1, 6890, 3)")


def test_every_link_leads_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "demo" / "README.md"]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
