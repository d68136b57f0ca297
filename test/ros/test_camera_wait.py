# SPDX-License-Identifier: Apache-2.0
"""The first frame waits for an expected CameraInfo, up to a given time."""

import pytest
from helpers_ros import QUICK, camera_info, client, node_here, people, standing


def answer_to(probe, message, seconds):
    """The meshes of a message that is sent once, or None."""
    probe.keypoints.publish(message)
    probe.spin(seconds)
    return next((m for m in probe.meshes if m.header.stamp == message.header.stamp), None)


@pytest.fixture
def waiting(bundle):
    def make(**values):
        return node_here(model=str(bundle), **(QUICK | values))

    return make


def begin(probe):
    assert probe.change_state("configure")
    assert probe.change_state("activate")
    probe.wait_for_node()
    probe.spin(0.3)


def test_the_first_frame_is_answered_when_camera_info_comes(waiting):
    with waiting(camera_info_timeout=20.0), client() as probe:
        begin(probe)
        message = people(standing())
        assert answer_to(probe, people(standing(), stamp=1.0), 0.3) is None
        assert answer_to(probe, message, 0.3) is None
        probe.camera.publish(camera_info(fx=700.0))
        stamp = message.header.stamp
        probe.wait(lambda: any(m.header.stamp == stamp for m in probe.meshes), "the answer")
        assert len(probe.meshes) == 1  # the newest
        probe.fresh_status()
        assert probe.values["camera"] == "CameraInfo"
        assert probe.number("dropped") >= 1
        assert probe.number("warning.no_camera_info") == 0


def test_in_vain_it_is_answered_by_a_guess_when_the_time_is_up(waiting):
    with waiting(camera_info_timeout=0.7), client() as probe:
        begin(probe)
        message = people(standing())
        assert answer_to(probe, message, 0.2) is None
        probe.wait(lambda: probe.meshes, "the answer")
        assert probe.meshes[0].header.stamp == message.header.stamp
        probe.wait(lambda: probe.number("warning.no_camera_info"), "the warning")
        assert answer_to(probe, people(standing()), 1.0) is not None  # at once from now on


@pytest.mark.parametrize("values", [{"camera_fx": 600.0}, {"camera_info_timeout": 0.0}])
def test_nobody_waits_for_what_does_not_count(waiting, values):
    with waiting(**({"camera_info_timeout": 20.0} | values)), client() as probe:
        begin(probe)
        assert len(probe.exchange(people(standing()), 10.0).bodies) == 1


def test_nobody_waits_where_nobody_publishes_camera_info(waiting):
    with waiting(camera_info_timeout=20.0), client() as probe:
        begin(probe)
        probe.destroy_publisher(probe.camera)
        probe.wait(lambda: not probe.count_publishers("/mesh_node/camera_info"), "its end")
        probe.spin(0.3)
        assert len(probe.exchange(people(standing()), 10.0).bodies) == 1


def test_deactivating_forgets_the_frame_that_waits(waiting):
    with waiting(camera_info_timeout=1.2), client() as probe:
        begin(probe)
        assert answer_to(probe, people(standing(), stamp=5.0), 0.1) is None
        assert probe.change_state("deactivate")
        probe.spin(1.4)
        assert probe.meshes == []
        assert probe.change_state("activate")
        assert len(probe.exchange(people(standing())).bodies) == 1
