# SPDX-License-Identifier: Apache-2.0
"""Files in the formats that detectors and users really write: they give the right people, or a
refusal that names the format and what to do. The people are from the demo recording."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from key2mesh_core.errors import TargetError
from key2mesh_core.keypoints.layouts import LAYOUTS, get_layout
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.people.person_frame import NETWORK_LAYOUT, PersonFrame
from key2mesh_core.recordings.bag_keypoints import LATEST_NS, BodiesOfImage
from key2mesh_core.recordings.open import open_recording
from key2mesh_core.recordings.options import RecordingOptions, parse_source
from key2mesh_core.recordings.prepare import DroppedRecords
from key2mesh_core.recordings.targets import load_targets

STREET = Path(__file__).resolve().parents[2] / "demo" / "data" / "street"
SIZE = "width=1768&height=994"


@cache
def walk() -> np.ndarray:
    """(F, 18, 3) of one person, in the network's order, who shows everything."""
    frames = [frame for frame in open_recording(STREET) if len(frame)]
    people = np.stack([frame.keypoints[0] for frame in frames])
    return people[(people[:, :18, 2] > 0.5).all(axis=1)][:20]


def in_order_of(names: tuple[str, ...], people: np.ndarray, count: int = 0) -> np.ndarray:
    """(F, L, 3) in a layout's order, the keypoints that it has beside ours at the nearest of ours;
    as many as `count`, the further ones on a hand."""
    lent = {"neck_joint": "neck", "mid_hip": "left_hip", "pelvis": "left_hip"}
    places = [
        NETWORK_KEYPOINTS.index(lent.get(n, n)) if lent.get(n, n) in NETWORK_KEYPOINTS else 4
        for n in names
    ]
    result = people[:, places]
    for name, pair in (("mid_hip", "hip"), ("upper_neck", "shoulder"), ("neck", "shoulder")):
        if name in names:
            sides = [NETWORK_KEYPOINTS.index(f"{side}_{pair}") for side in ("left", "right")]
            result[:, names.index(name)] = people[:, sides].mean(axis=1)
    more = np.repeat(people[:, 4:5], max(0, count - len(names)), axis=1)
    return np.concatenate([result, more], axis=1)


def human36m() -> np.ndarray:
    """(F, 17, 3) as pose lifters have it: pelvis, right leg, left leg, spine, thorax, neck, head,
    left arm, right arm."""
    at = {name: walk()[:, number] for number, name in enumerate(NETWORK_KEYPOINTS)}
    pelvis = (at["left_hip"] + at["right_hip"]) / 2
    thorax = (at["left_shoulder"] + at["right_shoulder"]) / 2
    joints = [
        *(pelvis, at["right_hip"], at["right_knee"], at["right_ankle"]),
        *(at["left_hip"], at["left_knee"], at["left_ankle"]),
        *((pelvis + thorax) / 2, thorax, at["nose"], at["nose"] - [0, 20, 0]),
        *(at[f"left_{n}"] for n in ("shoulder", "elbow", "wrist")),
        *(at[f"right_{n}"] for n in ("shoulder", "elbow", "wrist")),
    ]
    return np.stack(joints, axis=1)


def results(people: np.ndarray, **more: Any) -> list[dict[str, Any]]:
    return [
        {"image_id": i, "category_id": 1, "keypoints": p.ravel().tolist(), "score": 0.9} | more
        for i, p in enumerate(people.astype(float))
    ]


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def openpose(folder: Path, people: np.ndarray) -> Path:
    for i, person in enumerate(people.astype(float)):
        entry = {"person_id": [-1], "pose_keypoints_2d": person.ravel().tolist()}
        write(folder / f"walk_{i:06d}.json", {"version": 1.3, "people": [entry]})
    return folder


def npz(path: Path, people: np.ndarray, **more: Any) -> Path:
    np.savez(path, keypoints=people, width=1768, height=994, **more)
    return path


def sources(folder: Path, people: np.ndarray) -> list[str]:
    """The same persons as every kind of file."""
    return [
        f"{openpose(folder / 'json', people)}?{SIZE}",
        f"{write(folder / 'results.json', results(people))}?{SIZE}",
        f"{npz(folder / 'people.npz', people)}",
    ]


def assert_walk(source: str, missing: tuple[str, ...] = ()) -> None:
    """The limbs are where they were."""
    frames = list(open_recording(source))
    assert len(frames) == len(walk())
    limbs = [NETWORK_KEYPOINTS.index(n) for n in NETWORK_KEYPOINTS[2:14] if n not in missing]
    for frame, expected in zip(frames, walk(), strict=True):
        (found,) = frame.keypoints
        np.testing.assert_allclose(found[limbs, :2], expected[limbs, :2], atol=0.01)
        assert frame.width == 1768


# Layouts.


@pytest.mark.parametrize(
    ("layout", "count"),
    [
        ("coco_17", 17), ("coco_17", 23), ("coco_17", 133), ("openpose_coco_18", 18),
        ("openpose_body_25", 25), ("openpose_body_25b", 25), ("openpose_body_25", 135),
        ("openpose_body_25b", 135), ("openpose_body_25", 137), ("halpe_26", 26),
        ("halpe_26", 136), ("mediapipe_33", 33), ("mediapipe_33", 543), ("zed_38", 38),
    ],
)  # fmt: skip
def test_one_rule_for_layouts_by_count_in_every_file(
    tmp_path: Path, layout: str, count: int
) -> None:
    people = in_order_of(LAYOUTS[layout].keypoint_names, walk(), count)
    for source in sources(tmp_path, people):
        assert_walk(source)


def test_a_layout_can_be_stated_wherever_keypoints_are_read(tmp_path: Path) -> None:
    people = in_order_of(LAYOUTS["hri_18"].keypoint_names, walk())
    for source in sources(tmp_path, people):
        mark = "&" if "?" in source else "?"
        assert_walk(f"{source}{mark}layout=hri_18")
        with pytest.raises(TargetError, match="'halpe_26' has 26 keypoints"):
            open_recording(f"{source}{mark}layout=halpe_26")


@pytest.mark.parametrize("count", [14, 19, 70])
def test_a_number_that_no_layout_has_is_refused_with_the_way_out(
    tmp_path: Path, count: int
) -> None:
    for source in sources(tmp_path, np.ones((3, count, 3), np.float32)):
        with pytest.raises(TargetError, match=rf"have {count} keypoints.*layout="):
            open_recording(source)


def test_the_joints_of_human36m_are_not_cocos_17(tmp_path: Path) -> None:
    for source in sources(tmp_path, human36m()):
        with pytest.raises(TargetError, match=r"Human3\.6M's 17 joints"):
            open_recording(source)
        assert len(open_recording(f"{source}{'&' if '?' in source else '?'}layout=coco_17"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_seventeen_in_any_other_order_are_not_cocos_17(tmp_path: Path, seed: int) -> None:
    """Another data set's joints, or an animal's."""
    order = np.random.default_rng(seed).permutation(17)
    for source in sources(tmp_path, coco_17()[:, order]):
        with pytest.raises(TargetError, match="COCO's 17"):
            open_recording(source)


def test_cocos_17_lying_bent_and_half_seen_are_cocos_17(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    people = in_order_of(LAYOUTS["coco_17"].keypoint_names, walk())
    for turn in np.radians([0, 90, 180, 250]):
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        turned = people.copy()
        turned[..., :2] = (turned[..., :2] - 600) @ rotation.T + 2000
        turned[random.random(turned.shape[:2]) < 0.3] = 0.0
        for source in sources(tmp_path / str(turn), turned):
            assert len(open_recording(source)) == len(people)


@pytest.mark.parametrize("scale", [1.0, 1 / 1768])
def test_third_numbers_that_are_depths_are_refused(tmp_path: Path, scale: float) -> None:
    """MediaPipe's x, y, z, in pixels and normalised."""
    people = in_order_of(LAYOUTS["mediapipe_33"].keypoint_names, walk()).astype(float)
    people[..., 2] = np.random.default_rng(0).normal(0, 40, people.shape[:2])
    for source in sources(tmp_path, people * scale):
        with pytest.raises(TargetError, match="confidence of 0 to 1"):
            open_recording(source)


@pytest.mark.parametrize(("low", "high"), [(9.9, 11.7), (3.0, 99.0)])
def test_third_numbers_that_are_metres_or_percentages_are_refused(
    tmp_path: Path, low: float, high: float
) -> None:
    people = coco_17().astype(float)
    people[..., 2] = np.random.default_rng(0).uniform(low, high, people.shape[:2])
    for source in sources(tmp_path, people):
        with pytest.raises(TargetError, match="confidence of 0 to 1"):
            open_recording(source)


@pytest.mark.parametrize(("factor", "warned"), [(1.05, False), (1.4, True), (3.0, True)])
def test_large_confidences_are_read_with_a_warning(
    tmp_path: Path, factor: float, warned: bool
) -> None:
    """Heatmaps may exceed 1 a little, distances from a plane more."""
    people = coco_17().astype(float)
    people[..., 2] = np.random.default_rng(0).uniform(0.2, factor, people.shape[:2])
    for source in sources(tmp_path, people):
        recording = open_recording(source)
        assert len(list(recording)) == len(people)
        assert ("confidence_above_one" in recording.warnings) == warned


# Values.


def test_a_keypoint_at_zero_is_unseen_whatever_its_confidence(tmp_path: Path) -> None:
    people = in_order_of(LAYOUTS["coco_17"].keypoint_names, walk())
    people[:, 9, :2] = 0.0  # the left wrist
    for source in sources(tmp_path, people):
        assert_walk(source, missing=("left_wrist",))
        for frame in open_recording(source):
            assert not frame.keypoints[0, NETWORK_KEYPOINTS.index("left_wrist")].any()


@pytest.mark.parametrize("place", [(-1, -1), (0, -387.0), (-387.0, 0), (-12.5, -80.25)])
def test_placeholders_outside_the_image_are_unseen(tmp_path: Path, place: tuple) -> None:
    """The zeros of a detector that gives its image borders, the borders subtracted again."""
    people = in_order_of(LAYOUTS["coco_17"].keypoint_names, walk())
    unseen = ("left_shoulder", "left_wrist", "left_knee", "left_ankle")
    for name in unseen:
        people[:, LAYOUTS["coco_17"].keypoint_names.index(name), :2] = place
    for source in sources(tmp_path, people):
        assert_walk(source, missing=unseen)
        for frame in open_recording(source):
            gone = [NETWORK_KEYPOINTS.index(name) for name in (*unseen, "neck")]
            assert not frame.keypoints[0, gone].any()


@pytest.mark.parametrize("scale", [1 / 1768, 1 / 994])
def test_normalised_coordinates_are_counted_and_refused(tmp_path: Path, scale: float) -> None:
    people = in_order_of(LAYOUTS["coco_17"].keypoint_names, walk())
    people[..., :2] *= scale
    for source in sources(tmp_path, people):
        with pytest.raises(TargetError, match=r"20 x all_on_one_spot.*pixels, not 0 to 1"):
            list(open_recording(source))


def test_who_never_stands_is_doubted(tmp_path: Path) -> None:
    """x and y exchanged, or y up."""
    people = coco_17()
    for name, turned in (
        ("good", people),
        ("swapped", people[..., [1, 0, 2]]),
        ("up", people * np.float32([1, -1, 1]) + np.float32([0, 994, 0])),
    ):
        recording = open_recording(npz(tmp_path / f"{name}.npz", turned))
        assert len(list(recording)) == len(people)
        assert ("nobody_upright" in recording.warnings) == (name != "good")


# JSON that is like COCO's.


def coco_17() -> np.ndarray:
    return in_order_of(LAYOUTS["coco_17"].keypoint_names, walk())


def test_keypoints_may_be_nested_in_threes(tmp_path: Path) -> None:
    content = results(coco_17())
    for entry in content:
        entry["keypoints"] = np.reshape(entry["keypoints"], (17, 3)).tolist()
    assert_walk(f"{write(tmp_path / 'r.json', content)}?{SIZE}")


def test_null_is_unseen(tmp_path: Path) -> None:
    content = results(coco_17())
    for entry in content:
        entry["keypoints"][27:30] = [None, None, 0]  # the left wrist
    file = write(tmp_path / "r.json", content)
    assert_walk(f"{file}?{SIZE}", missing=("left_wrist",))


def annotations(names: tuple[str, ...], people: np.ndarray) -> dict[str, Any]:
    """With a chair in every image, as CVAT exports labels of several kinds."""
    images = [
        {"id": i, "file_name": f"frame_{i:06d}.png", "width": 1768, "height": 994}
        for i in range(len(people))
    ]
    chairs = [{"image_id": i, "category_id": 2, "bbox": [0, 0, 9, 9]} for i in range(len(people))]
    categories = [{"id": 1, "name": "person", "keypoints": list(names)}, {"id": 2, "name": "chair"}]
    entries = results(people) + chairs
    return {"images": images, "annotations": entries, "categories": categories}


def test_other_categories_are_left_out_and_counted(tmp_path: Path) -> None:
    content = annotations(get_layout("coco_17").keypoint_names, coco_17())
    animal = results(np.ones((1, 12, 3)), category_id=3)
    content["annotations"] += animal
    content["categories"].append({"id": 3, "name": "dog", "keypoints": ["l_eye"] * 12})
    file = write(tmp_path / "a.json", content)
    assert_walk(str(file))
    recording = open_recording(file)
    assert recording.dropped.counts == {"other_category": len(walk()) + 1}


def test_a_file_that_names_its_keypoints_says_their_order(tmp_path: Path) -> None:
    names = tuple(reversed(get_layout("coco_17").keypoint_names))
    people = in_order_of(names, walk())
    spelt = tuple(name.replace("_", " ").title() for name in names)
    assert_walk(str(write(tmp_path / "a.json", annotations(spelt, people))))


@pytest.mark.parametrize(
    ("owner", "content"),
    [
        ("MMPose", [{"keypoints": [[1.0, 2.0]] * 17, "keypoint_scores": [0.9] * 17}]),
        ("MMPose", {"meta_info": {}, "instance_info": [{"frame_id": 1, "instances": []}]}),
        (
            "Ultralytics",
            [{"name": "person", "class": 0, "confidence": 0.9, "box": {}, "keypoints": {"x": []}}],
        ),
        ("LabelMe", {"version": "5", "shapes": [], "imagePath": "a.png"}),
    ],
)
def test_other_programs_json_is_refused_by_name(tmp_path: Path, owner: str, content: Any) -> None:
    with pytest.raises(TargetError, match=rf"{owner}.*image_id"):
        open_recording(write(tmp_path / "r.json", content))


# What a source may be.


def test_a_plain_path_is_what_lies_there(tmp_path: Path) -> None:
    people = coco_17()
    folder, results_json, file = (s.partition("?")[0] for s in sources(tmp_path, people))
    (mcap,) = STREET.glob("*.mcap")
    for path, kind in (
        (folder, "openpose"),
        (f"{folder}/walk_000000.json", "openpose"),
        (results_json, "coco"),
        (file, "npz"),
        (STREET, "bag"),
        (mcap, "bag"),
    ):
        assert parse_source(path).kind == kind
        assert parse_source(f"{kind}:{path}") == replace(parse_source(path), text=f"{kind}:{path}")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(TargetError, match="nothing"):
        open_recording(tmp_path / "nothing")
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(TargetError, match=r"KIND:.*clip\.mp4"):
        open_recording(tmp_path / "clip.mp4")


def test_options_of_the_name_come_before_those_of_the_command() -> None:
    options = RecordingOptions(topic="/mine", fps=10.0)
    given = parse_source(f"{STREET}?topic=/theirs&fov=70", options).options
    assert (given.topic, given.fps, given.camera.fov_deg) == ("/theirs", 10.0, 70.0)
    focal = parse_source(f"{STREET}?fx=900&width=640&height=480", given).options.camera
    assert (focal.fx, focal.fov_deg, focal.image_size) == (900.0, 0.0, (640, 480))
    with pytest.raises(TargetError, match="give one"):
        parse_source(f"{STREET}?fx=900&fov=70")


def test_a_recording_can_be_read_again() -> None:
    recording = open_recording(STREET)
    counts = []
    for _ in range(2):
        counts.append((sum(len(frame) for frame in recording), dict(recording.dropped.counts)))
    assert counts[0] == counts[1] == (360, {"nobody_in_image": 6})
    assert recording.warnings == {}


def test_the_same_image_has_the_same_camera_in_arrays() -> None:
    frames = [frame for frame in open_recording(STREET) if len(frame)]
    assert {frame.camera.intrinsics.fx for frame in frames} == {2520.0}
    assert (load_targets([str(STREET)]).intrinsics[:, 0] == 2520.0).all()


# Persons with a topic each.


def body(name: str, stamp: int) -> PersonFrame:
    keypoints = np.ones((1, 18, 3), np.float32)
    return PersonFrame((name,), keypoints, NETWORK_LAYOUT, stamp_ns=stamp, stream="/bodies/*")


def together(bodies: list[tuple[str, int]]) -> tuple[list[tuple[int, tuple[str, ...]]], dict]:
    """Stamps and names of the images, and what was dropped."""
    images, dropped, found = BodiesOfImage(), DroppedRecords(), []
    for name, stamp in bodies:
        found += images.add(body(name, stamp), SimpleNamespace(), dropped)
    found += images.rest()
    assert [frame.number for frame, _ in found] == list(range(len(found)))
    return [(frame.stamp_ns, frame.ids) for frame, _ in found], dict(dropped.counts)


def test_bodies_of_one_stamp_are_one_image() -> None:
    bodies = [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("b", 3)]
    assert together(bodies) == ([(1, ("a", "b")), (2, ("a", "b")), (3, ("b",))], {})


def test_a_late_body_still_belongs_to_its_image() -> None:
    bodies = [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert together(bodies) == ([(1, ("a", "b")), (2, ("a", "b"))], {})


def test_a_body_that_is_too_late_is_dropped_and_counted() -> None:
    later = LATEST_NS + 10
    bodies = [("a", 1), ("a", later), ("b", 1)]
    assert together(bodies) == ([(1, ("a",)), (later, ("a",))], {"late": 1})


def test_a_recording_that_begins_again_is_read_again() -> None:
    far = 10 * LATEST_NS
    bodies = [("a", far), ("b", far), ("a", 1), ("b", 1)]
    assert together(bodies) == ([(far, ("a", "b")), (1, ("a", "b"))], {})
