# SPDX-License-Identifier: Apache-2.0
"""The live view in a real browser: the frame's content is on the page."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, find_chromium

from key2mesh_core.camera.choose import Camera
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.people.mesh_frame import MeshFrame

pytest.importorskip("viser")

from key2mesh_core.view.viewer import PALETTE, Viewer

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
"""Rendering without a graphics card on a busy machine is slow; only failures wait so long."""

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
# Counter-clockwise seen from outside.
SIDES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
TRIANGLES = np.array([t for a, b, c, d in SIDES for t in ((a, b, c), (a, c, d))], np.int32)
PARENTS = np.array([-1, *range(23)], np.int32)
CAMERA = Camera(Intrinsics(500.0, 500.0, 320.0, 240.0), 640, 480)


def frame(*people: tuple[str, tuple[float, float, float]], error: float = 5.5) -> MeshFrame:
    """Persons of a name and a place: a box of 0.8 x 1.6 x 0.4 m each, with a spine of joints."""
    count = len(people)
    places = np.array([place for _, place in people], np.float32).reshape(count, 1, 3)
    spine = np.linspace([0, 0.7, 0], [0, -0.7, 0], 24, dtype=np.float32)
    return MeshFrame(
        stamp_ns=0,
        body_model="box",
        ids=tuple(name for name, _ in people),
        quality=np.full(count, 0.5, np.float32),
        reprojection_error=np.full(count, error, np.float32),
        joints=spine + places,
        vertices=CORNERS * np.array([0.4, 0.8, 0.2], np.float32) + places,
        people_without_body=0,
        metric=True,
        position_deviation=np.full(count, 0.2, np.float32),
    )


def coloured(picture: np.ndarray, person: int) -> np.ndarray:
    """(n, 2) row, column of the pixels that have the hue of the given person's colour."""
    colour = np.array(PALETTE[person], float)
    pixels = picture.astype(float)
    pixels -= pixels.mean(axis=2, keepdims=True)
    colour -= colour.mean()
    length = np.linalg.norm(pixels, axis=2)
    alike = (pixels @ colour) / np.maximum(length * np.linalg.norm(colour), 1e-9)
    return np.argwhere((alike > 0.97) & (length > 25))


def wait_for(what: str, found: Callable[[], object]) -> object:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.2)
    raise TimeoutError(f"waited {PATIENCE_S:g} s in vain for {what}")


@pytest.fixture(scope="module")
def chromium() -> str:
    return find_chromium()


@pytest.fixture(scope="module")
def page(chromium):
    """A viewer and a browser that looks at it, both as they are after the first frame."""
    viewer = Viewer(port=8300)
    viewer.set_topology(TRIANGLES, PARENTS)
    viewer.set_camera(CAMERA)
    viewer.show(frame(("left", (-1.5, 0, 6)), ("low", (1.5, 1.5, 6))))
    try:
        with Browser(viewer.url) as browser:
            wait_for("a first mesh", lambda: len(coloured(browser.drawing(), 0)) > 200)
            yield viewer, browser
    finally:
        viewer.close()


def count(browser: Browser, person: int) -> int:
    return len(coloured(browser.drawing(), person))


def test_the_picture_is_not_blank_and_shows_each_person_s_mesh(page):
    viewer, browser = page
    viewer.show(frame(("left", (-1.5, 0, 6)), ("low", (1.5, 1.5, 6))))
    wait_for("both meshes", lambda: min(count(browser, 0), count(browser, 1)) > 200)
    assert browser.drawing().std() > 10
    assert browser.picture().std() > 10


def test_right_and_down_of_the_camera_are_right_and_down_on_the_page(page):
    """One person to the camera's left, one to its right and lower (y down): so they appear."""
    viewer, browser = page
    viewer.show(frame(("left", (-1.5, 0, 6)), ("low", (1.5, 1.5, 6))))
    wait_for("both meshes", lambda: min(count(browser, 0), count(browser, 1)) > 200)
    picture = browser.drawing()
    (row, column), (low_row, right_column) = (
        coloured(picture, person).mean(axis=0) for person in (0, 1)
    )
    assert right_column > column + 50
    assert low_row > row + 30


def test_each_person_s_reprojection_error_is_on_the_page(page):
    viewer, browser = page
    viewer.show(frame(("left", (-1.5, 0, 6)), ("low", (1.5, 1.5, 6)), error=12.3))

    def text() -> str:
        return browser.evaluate("document.body.innerText") or ""

    wait_for("the error in the table", lambda: text().count("12.3") >= 2)
    assert "2 in view" in text()
    assert "left" in text()
    assert "low" in text()


def test_who_leaves_is_gone_and_comes_back(page):
    viewer, browser = page
    viewer.show(frame(("left", (-1.5, 0, 6))))
    wait_for("the second person to go", lambda: count(browser, 1) < 20)
    assert count(browser, 0) > 200
    viewer.show(frame())
    wait_for("the first person to go", lambda: count(browser, 0) < 20)
    viewer.show(frame(("left", (-1.5, 0, 6))))
    wait_for("the first person again", lambda: count(browser, 0) > 200)


def test_a_mesh_that_moves_is_drawn_where_it_is(page):
    viewer, browser = page

    def column() -> float:
        places = coloured(browser.drawing(), 0)
        return float(places[:, 1].mean()) if len(places) > 200 else np.nan

    viewer.show(frame(("left", (-1.5, 0, 6))))
    wait_for("the mesh", lambda: column() > 0)
    before = column()
    viewer.show(frame(("left", (1.0, 0, 6))))
    wait_for("the mesh farther right", lambda: column() > before + 100)


def test_boxes_hide_the_mesh_and_leave_the_skeleton(page):
    viewer, browser = page
    viewer.show(frame(("left", (-1.5, 0, 6))))
    wait_for("the mesh", lambda: count(browser, 0) > 200)
    full = count(browser, 0)
    assert full > 400
    # The box in the smallest part of the page that holds both the word and a box.
    click = """(() => {
        let part = [...document.querySelectorAll("*")].filter(
            e => e.textContent.trim() === "mesh" && e.children.length === 0)[0];
        while (!part.querySelector("input[type=checkbox]")) part = part.parentElement;
        part.querySelector("input[type=checkbox]").click();
    })()"""
    browser.evaluate(click)
    wait_for("the mesh to hide", lambda: count(browser, 0) < full / 4)
    viewer.show(frame(("new", (0, 0, 6))))  # who comes now is hidden as well
    time.sleep(1.0)
    assert count(browser, 2) < full / 4
    browser.evaluate(click)
    wait_for("the mesh again", lambda: count(browser, 2) > 200)


def test_numbers_that_are_none_and_strange_names_do_no_harm(page):
    viewer, browser = page
    wild = frame(("a/b", (0, 0, 6)), ("", (1, 0, 6)), ("", (2, 0, 6)))
    wild.vertices[0, 3] = np.nan
    viewer.show(wild)
    text = lambda: browser.evaluate("document.body.innerText") or ""  # noqa: E731
    wait_for("the panel to count who is not drawn", lambda: "1 not drawn" in text())
    assert "2 in view" in text()
    viewer.show(frame(("left", (-1.5, 0, 6))))
    wait_for("a good frame afterwards", lambda: count(browser, 0) > 200)


def test_bodies_without_vertices_or_topology_show_their_joints_only():
    viewer = Viewer(port=8320)
    try:
        some = frame(("left", (-1.5, 0, 6)))
        viewer.show(some)  # a topology is not there yet
        viewer.set_topology(TRIANGLES, PARENTS)
        viewer.show(some)
        bare = MeshFrame(**{**vars(some), "vertices": np.zeros((1, 0, 3), np.float32)})
        viewer.show(bare)
        viewer.show(some)
    finally:
        viewer.close()


def test_a_host_that_is_not_ours_is_refused():
    with pytest.raises(Key2MeshError, match=r"cannot serve the view on 192\.0\.2\.1:8330"):
        Viewer(host="192.0.2.1", port=8330)


@pytest.mark.skipif(
    not os.environ.get("AMENT_PREFIX_PATH"), reason="needs ROS and built messages (make test)"
)
def test_the_command_shows_a_topic(chromium):
    """Real messages over DDS into `key2mesh view`, looked at in the browser."""
    from array import array

    import rclpy
    from rclpy.qos import DurabilityPolicy, QoSProfile

    from key2mesh_ros.msg import BodyMesh, BodyMeshArray, BodyTopology

    one = frame(("left", (-1.5, 0, 6)))
    body = BodyMesh(
        id="left",
        reprojection_error=5.5,
        joints=one.joints[0].ravel(),
        vertices=array("f", one.vertices[0].ravel().tolist()),
    )
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("fake_mesh_node", context=context)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    topology = node.create_publisher(BodyTopology, "/somewhere/topology", latched)
    meshes = node.create_publisher(BodyMeshArray, "/somewhere/meshes", 1)
    topology.publish(
        BodyTopology(triangles=TRIANGLES.ravel().astype(np.uint32), parents=PARENTS.tolist())
    )
    view = subprocess.Popen(
        [
            *(sys.executable, "-m", "key2mesh_core.cli.main", "view"),
            *("--topic", "/somewhere/meshes", "--port", "8340"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        url = next(word for word in view.stdout.readline().split() if word.startswith("http"))

        def seen() -> bool:
            meshes.publish(BodyMeshArray(bodies=[body]))
            return len(coloured(browser.drawing(), 0)) > 200

        with Browser(url) as browser:
            wait_for("the mesh of the topic", seen)
    finally:
        view.terminate()
        status = view.wait(20)
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    assert status in (0, -15)
