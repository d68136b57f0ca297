# SPDX-License-Identifier: Apache-2.0
"""Every kind of bad input, over DDS, to the node in a separate process.

After each, the node must still answer a good message.
"""

import math
import time
from array import array

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from helpers_ros import camera_info, client, node_process, people, person, standing
from visualization_msgs.msg import Marker


@pytest.fixture(scope="module")
def process(tmp_path_factory, bundle):
    log = tmp_path_factory.mktemp("node") / "log"
    with node_process(log, model=bundle, diagnostics_period=0.1) as running:
        yield running


@pytest.fixture(scope="module")
def probe(process):
    with client() as result:
        result.wait_for_node()
        result.send_until_counted(people(standing()), "meshes")
        yield result


@pytest.fixture(autouse=True)
def _still_works(probe, process):
    probe.meshes.clear()
    yield
    good = people(standing())
    assert len(probe.exchange(good).bodies) == 1
    assert process.running()


@pytest.fixture(scope="module")
def complained():
    """Causes that the log has named before."""
    return set()


def numbers(message):
    """Every number that is published about bodies."""
    return np.concatenate(
        [np.concatenate([b.betas, b.pose, b.joints, b.vertices]) for b in message.bodies]
        + [
            [b.quality, b.reprojection_error, b.position.x, b.position.y, b.position.z]
            for b in message.bodies
        ]
    )


@pytest.mark.parametrize(
    ("axis", "value"),
    [
        (0, math.nan),
        (1, math.inf),
        (2, math.nan),
        (0, -math.inf),
        (1, 3e38),
        (0, -1e7),
        (2, -math.inf),
    ],
)
def test_unusable_keypoints_count_as_unseen(probe, axis, value):
    keypoints = standing()
    unseen = keypoints.copy()
    keypoints[[4, 16], axis] = value
    unseen[[4, 16]] = 0.0
    result = numbers(probe.exchange(people(keypoints)))
    assert np.isfinite(result).all()
    np.testing.assert_array_equal(result, numbers(probe.exchange(people(unseen))))


def test_keypoints_that_a_detector_has_zeroed_count_as_unseen(probe):
    """With the confidence that they had: Ultralytics keeps it."""
    zeroed, unseen = standing(), standing()
    zeroed[[4, 7, 10], :2] = 0.0
    unseen[[4, 7, 10]] = 0.0
    result = numbers(probe.exchange(people(zeroed)))
    np.testing.assert_array_equal(result, numbers(probe.exchange(people(unseen))))


def test_normalised_coordinates_are_refused(probe):
    normalised = standing()
    normalised[:, :2] /= (640.0, 480.0)
    probe.send_until_counted(people(normalised), "refused.normalised")


def test_persons_who_share_an_id_are_told_apart_by_pose(probe):
    """AlphaPose's and Ultralytics' trackers give one id to everybody, now and then."""
    places = standing(150.0), standing(450.0, height=250.0)
    alone = probe.exchange(people(*places)).bodies
    names = []
    probe.fresh_status()
    before = probe.number("warning.repeated_id")
    for order in (1, -1, 1):
        message = people(*places[::order])
        for each in message.people:
            each.id = "7"
        bodies = sorted(probe.exchange(message).bodies, key=lambda body: body.position.x)
        assert [b.position.x for b in bodies] == [b.position.x for b in alone]
        names.append([body.id for body in bodies])
    assert len(set(names[0])) == 2
    assert "7" not in names[0]
    assert names[1:] == names[:1] * 2
    probe.wait(lambda: probe.number("warning.repeated_id") >= before + 3, "the warnings")


def test_a_late_frame_is_refused_and_counted(probe):
    now = time.time()
    probe.exchange(people(standing(), stamp=now))
    late = people(standing(), stamp=now - 0.5)
    probe.send_until_counted(late, "refused.late")
    assert not [m for m in probe.meshes if m.header.stamp == late.header.stamp]


def test_one_stamp_twice_is_answered_and_reported(probe):
    message = people(standing())
    assert probe.exchange(message).header == probe.exchange_again(message).header
    probe.wait(lambda: probe.number("warning.repeated_stamp"), "the warning")


def test_a_person_of_nothing_but_unusable_keypoints_is_left_out(probe):
    keypoints = standing()
    keypoints[:, 0] = math.nan
    probe.fresh_status()
    before = probe.number("left_out.too_few_keypoints")
    message = probe.exchange(people(keypoints, standing(100.0)))
    assert [body.id for body in message.bodies] == ["1"]
    assert np.isfinite(numbers(message)).all()
    probe.wait(lambda: probe.number("left_out.too_few_keypoints") > before, "the count")


def test_persons_with_few_keypoints_are_left_out_and_counted(probe):
    five, six = standing(), standing(500.0)
    five[5:] = 0.0
    six[6:] = 0.0
    probe.fresh_status()
    before = probe.number("left_out.too_few_keypoints")
    message = probe.exchange(people(five, six, standing(200.0)))
    assert [body.id for body in message.bodies] == ["1", "2"]
    probe.wait(lambda: probe.number("left_out.too_few_keypoints") > before, "the count")


def shortened(count):
    message = people(standing())
    each = message.people[0]
    each.x, each.y, each.confidence = each.x[:count], each.y[:count], each.confidence[:count]
    return message


def unequal():
    message = people(standing(), standing(100.0))
    message.people[1].y = message.people[1].y[:11]
    return message


def absent():
    message = people(standing())
    message.people[0].confidence = array("f")
    return message


@pytest.mark.parametrize(
    ("bad", "cause", "said"),
    [
        (people(standing(), layout="centaur_20"), "unknown_layout", ["'centaur_20'", "coco_17"]),
        (people(standing(), layout=""), "unknown_layout", ["''"]),
        (people(standing(), layout="coco_17"), "keypoint_count", ["17", "18"]),
        (shortened(17), "keypoint_count", ["17", "18"]),
        (shortened(0), "keypoint_count", ["0", "18"]),
        (unequal(), "unequal_lengths", ["18", "11"]),
        (absent(), "unequal_lengths", ["18", "0"]),
        (people(standing(), image_width=0), "no_image_size", ["0 x 480", "image_width"]),
    ],
)
def test_a_message_that_cannot_be_understood_is_refused(
    probe, process, complained, bad, cause, said
):
    probe.fresh_status()
    before = len(process.log.splitlines())
    probe.send_until_counted(bad, f"refused.{cause}")
    assert not [m for m in probe.meshes if m.header.stamp == bad.header.stamp]
    lines = process.log.splitlines()[before:]
    if cause not in complained:  # after the first of a kind the log is throttled
        complained.add(cause)
        assert len(lines) == 1
        assert "message refused" in lines[0]
        assert all(word in lines[0] for word in said)


def test_refusals_are_logged_once_in_a_while_only(probe, process):
    bad = people(standing(), layout="minotaur")
    for _ in range(3):
        probe.send_until_counted(bad, "refused.unknown_layout")
    refusals = [line for line in process.log.splitlines() if "unknown keypoint layout" in line]
    assert len(refusals) <= probe.number("refused.unknown_layout") / 2


def test_the_diagnostics_say_what_to_do_about_refusals(probe):
    bad = people(standing(), layout="minotaur")

    def advice():
        probe.keypoints.publish(bad)
        return [
            status
            for status in probe.statuses
            if "correct the detector's 'layout'" in status.message
        ]

    probe.statuses.clear()
    found = probe.wait(advice, "advice")[0]
    assert found.level in (DiagnosticStatus.WARN, DiagnosticStatus.ERROR)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (people(standing(), stamp=0.0), "zero_stamp"),
        (people(standing(), stamp=time.time() + 1000.0), "future_stamp"),
    ],
)
def test_odd_stamps_are_processed_and_reported(probe, message, cause):
    probe.fresh_status()
    before = probe.number(f"warning.{cause}")
    assert probe.exchange(message).header == message.header
    probe.wait(lambda: probe.number(f"warning.{cause}") > before, cause)


def test_an_empty_frame_is_processed_and_reported(probe):
    message = people(standing())
    message.header.frame_id = ""
    probe.fresh_status()
    before = probe.number("warning.empty_frame_id")
    assert probe.exchange(message).header == message.header
    probe.wait(lambda: probe.number("warning.empty_frame_id") > before, "the count")


def test_nobody_in_view_is_an_empty_message_and_deletes_the_markers(probe):
    subscription = probe.watch_markers()
    probe.wait(lambda: probe.count_publishers("/mesh_node/markers"), "the markers' topic")

    def actions(stamp):
        return [
            m.action for array in probe.markers for m in array.markers if m.header.stamp == stamp
        ]

    try:
        shown = people(standing(), standing(100.0))
        probe.wait(lambda: (probe.exchange_again(shown), actions(shown.header.stamp))[1], "markers")
        assert set(actions(shown.header.stamp)) == {Marker.ADD}
        nobody = people()
        message = probe.exchange(nobody)
        assert message.header == nobody.header
        assert message.body_model
        assert list(message.bodies) == []
        probe.wait(lambda: actions(nobody.header.stamp), "the deletion")
        assert set(actions(nobody.header.stamp)) == {Marker.DELETEALL}
    finally:
        probe.destroy_subscription(subscription)


def test_a_clock_that_jumps_back_resets_the_stream(probe):
    probe.exchange(people(standing()))
    probe.fresh_status()
    before = probe.number("warning.clock_jump")
    earlier = people(standing(), stamp=time.time() - 500.0)
    assert len(probe.exchange(earlier).bodies) == 1
    probe.wait(lambda: probe.number("warning.clock_jump") == before + 1, "the jump")
    later = people(standing(), stamp=time.time() - 499.0)
    probe.exchange(later)  # goes on from there: no second jump
    probe.fresh_status()
    assert probe.number("warning.clock_jump") == before + 1


def test_ten_thousand_people_are_capped_to_the_largest(probe):
    message = people()
    message.people = [person(standing(height=40.0), "small")] * 10_000
    for place, height in ((17, 200.0), (4242, 300.0), (9999, 250.0)):
        message.people[place] = person(standing(height=height), str(place))
    probe.fresh_status()
    before = probe.number("left_out.over_max_people")
    # 2.4 MB of sensor data: the network may lose a piece of it, and then all of it.
    chosen = [body.id for body in probe.exchange(message, seconds=90.0).bodies]
    assert len(chosen) == 32
    assert [each for each in chosen if each.isdigit()] == ["17", "4242", "9999"]
    probe.wait(
        lambda: probe.number("left_out.over_max_people") >= before + 10_000 - 32, "the count"
    )


def test_without_camera_info_positions_are_flagged_until_it_comes(probe):
    keypoints = standing()
    keypoints[:, 2] = 1.0
    message = probe.exchange(people(keypoints))
    assert message.bodies[0].quality <= 0.5
    probe.fresh_status()
    assert probe.number("warning.no_camera_info") > 0
    assert "scale-free" in probe.values["camera"]
    probe.camera.publish(camera_info(fx=1000.0))
    depth = message.bodies[0].position.z

    def with_camera():
        probe.camera.publish(camera_info(fx=1000.0))
        answer = probe.exchange(people(keypoints))
        return answer if answer.bodies[0].position.z != depth else None

    calibrated = probe.wait(with_camera, "the camera to be used").bodies[0]
    assumed_focal = 320.0 / math.tan(math.radians(30.0))
    assert calibrated.position.z == pytest.approx(depth * 1000.0 / assumed_focal, rel=1e-4)
    assert calibrated.quality > 0.5
    probe.fresh_status()
    assert probe.values["camera"] == "CameraInfo"


def test_keypoints_outside_the_cameras_image_are_reported(probe):
    """A detector that looks at twice the image that message and CameraInfo speak of."""
    outside = standing(1000.0, 700.0)
    probe.fresh_status()
    before = probe.number("warning.keypoints_outside_image")
    assert len(probe.exchange(people(outside)).bodies) == 1
    probe.wait(lambda: probe.number("warning.keypoints_outside_image") > before, "the warning")
    assert "640 x 480" in probe.values["camera_doubts"]


def test_third_numbers_that_are_no_confidences_are_reported(probe):
    """Percentages, or MediaPipe's x, y, z taken for x, y, confidence."""
    keypoints = standing()
    seen = probe.exchange(people(np.minimum(keypoints * [1, 1, 100], [1e4, 1e4, 1]))).bodies[0]
    probe.fresh_status()
    before = probe.number("warning.confidence_above_one")
    body = probe.exchange(people(keypoints * [1, 1, 100])).bodies[0]
    assert body.position == seen.position
    probe.wait(lambda: probe.number("warning.confidence_above_one") > before, "the warning")


def test_keypoints_in_another_order_than_the_layouts_are_reported(probe):
    wrong = standing()[np.random.default_rng(0).permutation(18)]
    right = probe.exchange(people(standing())).bodies[0].quality
    probe.fresh_status()
    before = probe.number("warning.misfit")
    assert probe.exchange(people(wrong)).bodies[0].quality < 0.2 < right
    probe.wait(lambda: probe.number("warning.misfit") > before, "the warning")
