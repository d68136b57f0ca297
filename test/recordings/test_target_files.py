# SPDX-License-Identifier: Apache-2.0
"""OpenPose folders, COCO JSON and npz are read back as written; broken files are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from key2mesh_core.errors import Key2MeshError, TargetError
from key2mesh_core.keypoints.layouts import LAYOUTS
from key2mesh_core.keypoints.table import NETWORK_KEYPOINTS
from key2mesh_core.recordings import coco, npz, openpose
from key2mesh_core.recordings.numbering import number_names
from key2mesh_core.recordings.targets import TargetKeypoints, load_targets
from key2mesh_core.recordings.which_layout import which_layout

# A standing person [px], so that geometry makes sense to who looks at it.
STANDING = {
    "nose": (50, 10), "neck": (50, 30), "right_shoulder": (35, 30), "right_elbow": (30, 50),
    "right_wrist": (28, 70), "left_shoulder": (65, 30), "left_elbow": (70, 50),
    "left_wrist": (72, 70), "right_hip": (42, 80), "right_knee": (41, 110),
    "right_ankle": (40, 140), "left_hip": (58, 80), "left_knee": (59, 110),
    "left_ankle": (60, 140), "right_eye": (47, 7), "left_eye": (53, 7), "right_ear": (43, 9),
    "left_ear": (57, 9), "mid_hip": (50, 80), "upper_neck": (50, 20), "head_top": (50, 0),
}  # fmt: skip


def person(layout: str, shift: float = 0.0, confidence: float = 0.9) -> np.ndarray:
    """(K, 3) of a standing person, `shift` px to the right."""
    places = [STANDING.get(name, (45, 145)) for name in LAYOUTS[layout].keypoint_names]
    return np.array([(x + shift, y, confidence) for x, y in places])


EXPECTED = np.array([STANDING[name] for name in NETWORK_KEYPOINTS], np.float32)


def assert_standing(targets: TargetKeypoints, shifts: list[float]) -> None:
    assert len(targets) == len(shifts)
    for row, shift in enumerate(shifts):
        np.testing.assert_allclose(targets.keypoints[row, :, 0], EXPECTED[:, 0] + shift, atol=1e-3)
        np.testing.assert_allclose(targets.keypoints[row, :, 1], EXPECTED[:, 1], atol=1e-3)
        assert (targets.keypoints[row, :, 2] > 0).all()


# OpenPose.


def write_openpose(file: Path, *people: np.ndarray, ids: tuple[int, ...] = ()) -> None:
    """One file as OpenPose 1.7 writes it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    entries = [
        {
            "person_id": [ids[i] if ids else -1],
            "pose_keypoints_2d": points.ravel().tolist(),
            "face_keypoints_2d": [],
            "hand_left_keypoints_2d": [],
            "pose_keypoints_3d": [],
        }
        for i, points in enumerate(people)
    ]
    file.write_text(json.dumps({"version": 1.3, "people": entries}))


@pytest.mark.parametrize("layout", ["openpose_coco_18", "openpose_body_25", "openpose_body_25b"])
def test_openpose_layouts_are_told_by_themselves(tmp_path: Path, layout: str) -> None:
    for i in range(3):
        write_openpose(tmp_path / f"video_{i:012d}_keypoints.json", person(layout, i))
    targets = load_targets([f"openpose:{tmp_path}?width=640&height=480"])
    assert_standing(targets, [0, 1, 2])
    assert targets.sequence.tolist() == [0, 0, 0]
    assert targets.frame.tolist() == [0, 1, 2]
    assert (targets.image_size == [640, 480]).all()


def test_body_25_is_known_from_people_lying_sitting_and_half_seen(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for layout in ("openpose_body_25", "openpose_body_25b"):
        people = []
        for _ in range(8):
            angle = random.uniform(0, 2 * np.pi)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            points = person(layout)
            points[:, :2] = points[:, :2] @ turn.T + random.normal(0, 3, (25, 2)) + 300
            points[random.random(25) < 0.3] = 0.0
            people.append(points)
        write_openpose(tmp_path / layout / "1.json", *people)
        assert which_layout(np.array(people, np.float32), "", "here").name == layout


def test_three_people_and_a_name_style_of_ones_own(tmp_path: Path) -> None:
    layout = "openpose_coco_18"
    for i in (9, 10, 11):
        crowd = [person(layout, s + i) for s in (400, 0, 200)]
        write_openpose(tmp_path / f"take2-img{i}.pose.json", *(crowd[i % 3 :] + crowd[: i % 3]))
    targets = load_targets([f"openpose:{tmp_path}"])
    assert targets.frame.tolist() == [9, 10, 11] * 3
    assert targets.sequence.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    starts = [409, 9, 209]
    assert_standing(targets, [s + i for s in starts for i in range(3)])


def test_openpose_ids_are_kept_even_when_people_pass_each_other(tmp_path: Path) -> None:
    for i in range(5):
        people = person("openpose_coco_18", 40 * i), person("openpose_coco_18", 160 - 40 * i)
        write_openpose(tmp_path / f"{i}.json", *people, ids=(3, 8))
    targets = load_targets([f"openpose:{tmp_path}"])
    assert_standing(targets, [0, 40, 80, 120, 160, 160, 120, 80, 40, 0])
    assert [name.split()[-1] for name in targets.names] == ["3", "8"]


def test_folders_in_a_folder_are_streams_of_their_own(tmp_path: Path) -> None:
    for camera in "ab":
        for i in range(2):
            write_openpose(tmp_path / camera / f"{i}.json", person("openpose_body_25", i))
    targets = load_targets([f"openpose:{tmp_path}"])
    assert targets.names == ("a/#.json", "b/#.json")
    (one,) = load_targets([f"openpose:{tmp_path / 'a' / '1.json'}"]).frame
    assert one == 1


def test_cameras_may_be_more_than_images(tmp_path: Path) -> None:
    """By whatever names; where every folder holds one image, folders are images."""
    for camera in range(12):
        for i in range(3):
            points = person("openpose_coco_18", 5 * i)
            write_openpose(tmp_path / f"{camera:02d}" / f"{i}.json", points)
        write_openpose(tmp_path / "single" / f"{camera:02d}" / "image.json", points)
    targets = load_targets([f"openpose:{tmp_path}"])
    assert len(targets.names) == 12 + 1
    assert targets.frame.tolist() == [0, 1, 2] * 12 + [*range(12)]


def test_empty_images_and_people_without_a_body_are_counted(tmp_path: Path) -> None:
    write_openpose(tmp_path / "1.json", person("openpose_coco_18"))
    write_openpose(tmp_path / "2.json")
    write_openpose(tmp_path / "3.json", np.empty((0, 3)))
    write_openpose(tmp_path / "4.json", np.zeros((18, 3)), person("openpose_coco_18"))
    few = person("openpose_coco_18")
    few[5:] = 0.0
    write_openpose(tmp_path / "5.json", few)
    targets = load_targets([f"openpose:{tmp_path}"])
    assert len(targets) == 2
    assert targets.left_out == {"nobody_in_image": 2, "no_keypoints": 1, "too_few_keypoints": 1}
    assert (
        load_targets([f"openpose:{tmp_path}"], minimum=5).left_out.get("too_few_keypoints") is None
    )


def test_nan_and_infinity_are_unseen(tmp_path: Path) -> None:
    points = person("openpose_coco_18")
    points[0, 0], points[3, 1], points[4, 2] = np.nan, np.inf, np.nan
    points[5, 0] = 1e300
    write_openpose(tmp_path / "1.json", points)
    (row,) = load_targets([f"openpose:{tmp_path}"]).keypoints
    assert np.flatnonzero(row[:, 2] == 0).tolist() == [0, 3, 4, 5]
    assert np.isfinite(row).all()


def openpose_text(values: str) -> str:
    return f'{{"people": [{{"pose_keypoints_2d": {values}}}]}}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "1.json is not JSON"),
        ('{"people": [{"pose_keypoints_2d": [1, 2', "is not JSON"),
        ("[" * 100_000, "1.json is not JSON"),
        ("[]", 'no list "people"'),
        ('{"people": 3}', 'no list "people"'),
        ('{"people": [3]}', r"people\[0\] is int"),
        ('{"people": [{"hand": []}]}', 'no "pose_keypoints_2d"'),
        (openpose_text('"0, 1"'), "not a list of numbers"),
        (openpose_text('[1, 2, "0.5"]'), r"pose_keypoints_2d\[2\] is '0.5', not a number"),
        (openpose_text("[1, true, 1]"), r"\[1\] is True, not a number"),
        (openpose_text("[1, 2, 3, 4]"), "has 4 numbers, not three"),
        (openpose_text(f"[1, 2, 1{'0' * 400}]"), r"pose_keypoints_2d has a number"),
        (openpose_text(str([1.0] * 45)), "have 15 keypoints.*layout="),
    ],
)
def test_openpose_files_that_are_none_are_refused_by_name(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "1.json").write_text(text)
    with pytest.raises(TargetError, match=says) as refused:
        load_targets([f"openpose:{tmp_path}"])
    assert str(tmp_path) in str(refused.value)


def test_other_openpose_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TargetError, match="absent"):
        load_targets([f"openpose:{tmp_path / 'absent'}"])
    write_openpose(tmp_path / "1.json")
    with pytest.raises(TargetError, match="1 images"):
        load_targets([f"openpose:{tmp_path}"])
    write_openpose(tmp_path / "2.json", person("openpose_coco_18"))
    with pytest.raises(TargetError, match=r"'coco_17' has 17 keypoints, people here 18"):
        load_targets([f"openpose:{tmp_path}?layout=coco_17"])
    with pytest.raises(TargetError, match="unknown keypoint layout 'cocoa'"):
        load_targets([f"openpose:{tmp_path}?layout=cocoa"])
    write_openpose(tmp_path / "3.json", person("openpose_body_25"))
    with pytest.raises(TargetError, match=r"person of 3\.json has 25 keypoints, those of 2\.json"):
        load_targets([f"openpose:{tmp_path}"])
    half = person("openpose_body_25")
    half[[0, 1, 8], 2] = 0.0
    write_openpose(tmp_path / "half" / "1.json", half)
    with pytest.raises(TargetError, match=r"layout=openpose_body_25"):
        load_targets([f"openpose:{tmp_path / 'half'}"])
    assert len(load_targets([f"openpose:{tmp_path / 'half'}?layout=openpose_body_25"])) == 1
    monkeypatch.setattr(openpose, "MAX_FILE_BYTES", 100)
    with pytest.raises(TargetError, match=" 100 bytes"):
        load_targets([f"openpose:{tmp_path}"])
    scaled = person("openpose_coco_18")
    scaled[:, :2] /= 500
    write_openpose(tmp_path / "scaled" / "1.json", scaled)
    monkeypatch.undo()
    with pytest.raises(TargetError, match=r"all_on_one_spot.*pixels, not 0 to 1"):
        load_targets([f"openpose:{tmp_path / 'scaled'}"])


# COCO.


def annotations(images: int = 3, flag: int = 2) -> dict[str, Any]:
    """A file of annotations, as of COCO's person_keypoints_*.json."""
    return {
        "images": [
            {"id": 70 + i, "width": 640, "height": 480, "file_name": f"{i:012d}.jpg"}
            for i in range(images)
        ],
        "annotations": [
            {
                "id": i,
                "image_id": 70 + i,
                "category_id": 1,
                "iscrowd": 0,
                "num_keypoints": 17,
                "keypoints": person("coco_17", i, flag).ravel().tolist(),
            }
            for i in range(images)
        ],
        "categories": [
            {"id": 1, "name": "person", "keypoints": list(LAYOUTS["coco_17"].keypoint_names)}
        ],
    }


def results(images: int = 3) -> list[dict[str, Any]]:
    """Detection results, as COCO's evaluation takes them."""
    return [
        {
            "image_id": 100 + i,
            "category_id": 1,
            "score": 0.8,
            "keypoints": person("coco_17", i, 0.7).ravel().tolist(),
        }
        for i in range(images)
    ]


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_coco_annotations(tmp_path: Path) -> None:
    content = annotations()
    content["annotations"][1]["keypoints"][2] = 1  # hidden
    content["annotations"][1]["keypoints"][5] = 0  # not labelled
    content["annotations"].append({"image_id": 70, "iscrowd": 1, "keypoints": [0] * 51})
    content["images"].append({"id": 9, "width": 640, "height": 480, "file_name": "empty7.jpg"})
    targets = load_targets([f"coco:{write(tmp_path / 'a.json', content)}"])
    assert targets.left_out == {"crowd": 1, "nobody_in_image": 1}
    assert targets.frame.tolist() == [0, 1, 2]
    assert targets.sequence.tolist() == [0, 0, 0]
    assert (targets.image_size == [640, 480]).all()
    assert targets.keypoints[0, :, 2].tolist() == [1.0] * 18
    assert targets.keypoints[1, NETWORK_KEYPOINTS.index("nose"), 2] == coco.HIDDEN_CONFIDENCE
    assert targets.keypoints[1, NETWORK_KEYPOINTS.index("left_eye"), 2] == 0.0
    np.testing.assert_allclose(targets.keypoints[2, :, :2], EXPECTED + [2, 0], atol=1e-3)  # noqa: RUF005


def test_coco_results_have_scores_and_no_sizes(tmp_path: Path) -> None:
    file = write(tmp_path / "r.json", results())
    targets = load_targets([f"coco:{file}?width=320&height=240"])
    assert_standing(targets, [0, 1, 2])
    np.testing.assert_allclose(targets.keypoints[..., 2], 0.7)
    assert targets.frame.tolist() == [100, 101, 102]
    assert (targets.image_size == [320, 240]).all()


def test_coco_annotations_with_scores_keep_them(tmp_path: Path) -> None:
    content = annotations()
    for entry in content["annotations"]:
        entry["keypoints"] = person("coco_17", 0, 0.7).ravel().tolist()
    targets = load_targets([f"coco:{write(tmp_path / 'a.json', content)}"])
    np.testing.assert_allclose(targets.keypoints[..., 2], 0.7)


def test_coco_tracks_keep_their_names(tmp_path: Path) -> None:
    content = results(2) + results(2)
    for entry, track in zip(content, (5, 6, 6, 5), strict=True):
        entry["track_id"] = track
    targets = load_targets([f"coco:{write(tmp_path / 'r.json', content)}"])
    assert_standing(targets, [0, 1, 0, 1])
    assert [name.split()[-1] for name in targets.names] == ["5", "6"]


def test_ids_that_are_whole_floats_are_numbers_and_true_is_no_name(tmp_path: Path) -> None:
    content = results(2) + results(2)
    for entry, track in zip(content, (5.0, 6.0, 6, True), strict=True):
        entry |= {"image_id": float(entry["image_id"]), "track_id": track}
    targets = load_targets([f"coco:{write(tmp_path / 'r.json', content)}"])
    assert [name.split()[2:] for name in targets.names] == [["5"], ["6"], []]
    points = np.stack([person("coco_17", s) for s in range(3)])
    np.savez(tmp_path / "k.npz", keypoints=points, sequence=[2.0] * 3, frame=[0.0, 1.0, 2.0])
    targets = load_targets([f"npz:{tmp_path / 'k.npz'}"])
    assert targets.frame.tolist() == [0, 1, 2]
    assert [name.split()[-1] for name in targets.names] == ["2"]


@pytest.mark.parametrize("layout", [["hri_18"], ["hri_18"] * 3, b"hri_18"])
def test_a_layout_may_be_an_array(tmp_path: Path, layout: Any) -> None:
    points = np.stack([person("hri_18", s) for s in range(3)])
    np.savez(tmp_path / "k.npz", keypoints=points, layout=layout)
    assert_standing(load_targets([f"npz:{tmp_path / 'k.npz'}"]), [0, 1, 2])


def test_alphapose_names_its_images(tmp_path: Path) -> None:
    content = results()
    for number, entry in zip((2, 10, 9), content, strict=True):
        entry["image_id"] = f"{number}.jpg"
    targets = load_targets([f"coco:{write(tmp_path / 'r.json', content)}"])
    assert targets.frame.tolist() == [2, 9, 10]
    assert_standing(targets, [0, 2, 1])


def broken(change: Any) -> dict[str, Any]:
    content = annotations()
    change(content)
    return content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"images": []}, '"annotations"'),
        (3, "nor a list of results"),
        ([], "no person with keypoints"),
        ([{"keypoints": []}], r'results\[0\] has no "image_id"'),
        ([{"image_id": 1}], r"1 x no_keypoints.*person_keypoints_\*\.json"),
        ([{"image_id": [1], "keypoints": []}], "image_id is"),
        ([{"image_id": True, "keypoints": []}], "image_id is True"),
        (broken(lambda c: c["images"][1].update(height=0)), r"images\[1\] is 640 x 0"),
        ([{"image_id": 1, "keypoints": ["1"] * 51}], r"keypoints\[0\] is '1', not a number"),
        ([{"image_id": 1, "keypoints": [1] * 50}], "50 numbers, not three"),
        ([{"image_id": 1, "keypoints": [1] * 42}], r"14 keypoints.*layout="),
        ([*results(1), {"image_id": 1, "keypoints": [1] * 54}], r"\[17, 18\] keypoints"),
        (broken(lambda c: c["images"][0].pop("id")), r"images\[0\] has no id"),
        (broken(lambda c: c["images"][1].update(width="640")), r"images\[1\] is '640' x 480"),
        (
            broken(lambda c: c["categories"][0].update(keypoints=["eye"] * 17)),
            "layout=NAME",
        ),
        (broken(lambda c: c["annotations"].clear()), "3 x nobody_in_image"),
    ],
)
def test_coco_files_that_are_none_are_refused_by_name(
    tmp_path: Path, content: Any, says: str
) -> None:
    with pytest.raises(TargetError, match=says) as refused:
        load_targets([f"coco:{write(tmp_path / 'file.json', content)}"])
    assert "file.json" in str(refused.value)


def test_coco_files_cut_short_missing_or_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.json", annotations())
    whole = file.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(TargetError, match=r"a\.json is not JSON"):
            load_targets([f"coco:{file}"])
    with pytest.raises(TargetError, match="cannot be read"):
        load_targets([f"coco:{tmp_path / 'absent.json'}"])
    file.write_bytes(whole)
    monkeypatch.setattr(coco, "MAX_FILE_BYTES", 1000)
    with pytest.raises(TargetError, match=" 1000 bytes"):
        load_targets([f"coco:{file}"])


# npz.


def test_plain_npz_with_everything(tmp_path: Path) -> None:
    people = np.array([person("coco_17", s) for s in (0, 300, 1, 301, 2)])
    np.savez(
        tmp_path / "k.npz",
        keypoints=people,
        layout="coco_17",
        sequence=[7, 8, 7, 8, 7],
        frame=[0, 0, 1, 1, 5],
        width=640,
        height=[480] * 5,
        intrinsics=[[500, 510, 320, 240]] * 4 + [[0, 0, 0, 0]],
        unknown=np.zeros(3),
    )
    targets = load_targets([f"npz:{tmp_path / 'k.npz'}"], assumed_fov_deg=90.0)
    assert_standing(targets, [0, 1, 2, 300, 301])
    assert targets.frame.tolist() == [0, 1, 5, 0, 1]
    assert targets.names == ("k.npz 7", "k.npz 8")
    assert (targets.image_size == [640, 480]).all()
    known = targets.frame < 5  # of the last image's camera nothing is
    assert (targets.intrinsics[known] == [500, 510, 320, 240]).all()
    np.testing.assert_allclose(targets.intrinsics[~known], [[320, 320, 320, 240]], rtol=1e-6)
    assert (targets.metric == known).all()


def test_npz_of_nothing_but_keypoints(tmp_path: Path) -> None:
    for layout in ("openpose_coco_18", "coco_17", "mediapipe_33", "halpe_26", "zed_34"):
        np.savez(tmp_path / "k.npz", keypoints=[person(layout, s) for s in range(3)])
        targets = load_targets([f"npz:{tmp_path / 'k.npz'}"])
        assert_standing(targets, [0, 1, 2])
        assert targets.sequence.tolist() == [0, 0, 0]
        assert targets.frame.tolist() == [0, 1, 2]


def test_insta_variety(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "insta.npz",
        joints2D=[person("instavariety_25", s, 1.0) for s in (5, 6, 0, 1)],
        vid_name=np.array([b"b", b"b", b"a", b"a"]),
        frame_id=[0, 1, 30, 31],
        features=np.zeros((4, 2048), np.float32),
    )
    targets = load_targets([f"npz:{tmp_path / 'insta.npz'}"])
    assert_standing(targets, [0, 1, 5, 6])
    assert targets.names == ("insta.npz a", "insta.npz b")
    assert targets.frame.tolist() == [30, 31, 0, 1]


def test_npz_with_names_of_images(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "spin.npz",
        openpose=[person("openpose_body_25", s) for s in (1, 0, 9)],
        imgname=["cam1/10.jpg", "cam1/9.jpg", "cam2/9.jpg"],
    )
    targets = load_targets([f"npz:{tmp_path / 'spin.npz'}"])
    assert_standing(targets, [0, 1, 9])
    assert targets.frame.tolist() == [9, 10, 9]


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"points": np.zeros((3, 17, 3))}, r"no array keypoints.*it has \['points'\]"),
        ({"keypoints": np.zeros((3, 17, 2))}, r"of shape \(3, 17, 2\); expected .*\(N, K, 3\)"),
        ({"keypoints": np.zeros((3, 51))}, r"of shape \(3, 51\)"),
        ({"keypoints": np.zeros((3, 25, 3))}, "layout=openpose_body_25"),
        ({"keypoints": np.full((3, 17, 3), "1")}, "keypoints is <U1"),
        ({"keypoints": np.zeros((3, 17, 3)), "layout": "x"}, "unknown keypoint layout 'x'"),
        ({"keypoints": np.zeros((3, 17, 3)), "layout": ["x", "y"]}, "layouts are x, y"),
        ({"keypoints": np.zeros((3, 17, 3)), "width": 1768}, "images are 1768 x 0"),
        ({"keypoints": np.zeros((3, 17, 3)), "sequence": [1, 2]}, r"sequence is int64 of shape"),
        ({"keypoints": np.zeros((3, 17, 3)), "sequence": [1.5] * 3}, "sequence is float64"),
        ({"keypoints": np.zeros((3, 17, 3)), "frame": [0, 1, -1]}, "frame .* -1 to 1"),
        ({"keypoints": np.zeros((3, 17, 3)), "width": "wide"}, "width is <U4"),
        ({"keypoints": np.zeros((3, 17, 3)), "intrinsics": [9.0, 9.0]}, "fx, fy, cx, cy"),
        ({"keypoints": np.zeros((3, 17, 3)), "intrinsics": [-9.0, 9, 9, 9]}, "fx=-9.0"),
        ({"keypoints": np.zeros((3, 17, 3)), "intrinsics": [np.nan, 9, 9, 9]}, "fx=nan"),
        ({"keypoints": np.zeros((3, 17, 3))}, "3 x no_keypoints"),
        ({"keypoints": np.zeros((0, 17, 3))}, "it is empty"),
        ({"keypoints": np.full((3, 17, 3), np.nan)}, "3 x no_keypoints"),
    ],
)
def test_npz_refusals(tmp_path: Path, arrays: dict, says: str) -> None:
    np.savez(tmp_path / "k.npz", **arrays)
    with pytest.raises(TargetError, match=says) as refused:
        load_targets([f"npz:{tmp_path / 'k.npz'}"])
    assert "k.npz" in str(refused.value)


def test_damaged_npz_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "k.npz"
    np.savez(file, keypoints=np.array([_Plain()], dtype=object))
    with pytest.raises(TargetError, match=r"k\.npz cannot be read"):
        load_targets([f"npz:{file}"])
    np.savez_compressed(file, keypoints=[person("coco_17", s) for s in range(30)])
    whole = file.read_bytes()
    for length in (0, 3, len(whole) // 2, len(whole) - 5):
        file.write_bytes(whole[:length])
        with pytest.raises(TargetError, match=r"k\.npz cannot be read"):
            load_targets([f"npz:{file}"])
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 0xFF
    file.write_bytes(damaged)
    with pytest.raises(TargetError, match=r"k\.npz"):
        load_targets([f"npz:{file}"])
    file.write_bytes(whole)
    monkeypatch.setattr(npz, "MAX_BYTES", 1000)
    with pytest.raises(TargetError, match="unpacks to"):
        load_targets([f"npz:{file}"])
    np.save(tmp_path / "one.npy", np.zeros((3, 17, 3)))
    with pytest.raises(TargetError, match=r"not made by np\.savez"):
        load_targets([f"npz:{tmp_path / 'one.npy'}"])


class _Plain:
    """Something that numpy can only pickle."""


# Names of files.


def test_names_of_any_style_are_in_the_order_of_time() -> None:
    def order(*names: str) -> list[tuple[str, str, int]]:
        return [(name, *where) for name, where in number_names(names).items()]

    assert order("img10", "img9") == [("img9", "img#", 9), ("img10", "img#", 10)]
    assert order("c1_5", "c2_5", "c1_6") == [
        ("c1_5", "c1_#", 5),
        ("c1_6", "c1_#", 6),
        ("c2_5", "c2_#", 5),
    ]
    assert order("f7_cam2", "f8_cam2") == [("f7_cam2", "f#_cam2", 7), ("f8_cam2", "f#_cam2", 8)]
    assert order("c1_5", "c2_5", "c3_5", "c1_6")[1] == ("c1_6", "c1_#", 6)
    assert order("Cam_1/5", "Cam_2/5", "Cam_3/6")[0] == ("Cam_1/5", "Cam_1/#", 5)
    assert order("b", "a") == [("a", "a", 0), ("b", "b", 0)]
    assert order() == []


@settings(deadline=None)
@given(st.sets(st.text("ab01_.", min_size=1, max_size=8), max_size=12))
def test_every_name_has_a_place(names: set[str]) -> None:
    numbered = number_names(names)
    assert set(numbered) == names
    for stream, number in numbered.values():
        assert number >= 0
        assert stream


@settings(deadline=None, max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    ["people", "pose_keypoints_2d", "images", "annotations", "image_id"]
                )
                | st.sampled_from(["keypoints", "id", "person_id", "categories"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_json_says_only_our_errors_come_out(content: Any) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "1.json"
        file.write_text(json.dumps(content))
        for kind in ("openpose", "coco"):
            with pytest.raises(Key2MeshError):
                load_targets([f"{kind}:{file}"])
