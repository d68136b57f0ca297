# SPDX-License-Identifier: Apache-2.0
"""Several cameras at once: every format states which images show the same moment, and doubtful
identities are left out."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from write_bags import camera_recording, keypoint_recording, write_bag

from key2mesh_core.camera.choose import Camera
from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.cli.main import main
from key2mesh_core.cli.targets import describe
from key2mesh_core.errors import BagError, TargetError
from key2mesh_core.people.person_frame import PersonFrame
from key2mesh_core.recordings.numbering import moment_numbers
from key2mesh_core.recordings.targets import TargetKeypoints, load_targets

START = 1_700_000_000_000_000_000
STEP = 33_333_333
LAYOUT = "coco_17"
EYES = "left_eye", "right_eye"
CAMERAS = Intrinsics(500.0, 500.0, 320.0, 240.0), Intrinsics(700.0, 710.0, 330.0, 250.0)
BOTH = "topic=/left/keypoints,/right/keypoints"


def person(shift: float, keypoints: int = 17) -> np.ndarray:
    """(K, 3) of somebody, the nose at 50 px, `shift` px to the right."""
    points = np.random.default_rng(0).uniform(0, 100, (keypoints, 3))
    points[0, 0], points[:, 2] = 50, 0.9
    return points + np.array([shift, 0, 0])


def seen(camera: int, moment: int, who: int = 0) -> np.ndarray:
    """(17, 3) of one of three persons: how far right they stand tells all three numbers."""
    return person(1000 * camera + 300 * who + moment)


def told(keypoints: np.ndarray) -> tuple[int, int, int]:
    """Camera, moment and person of a row, from where its nose is."""
    camera, rest = divmod(round(float(keypoints[0, 0])) - 50, 1000)
    return camera, rest % 300, rest // 300


def image(
    camera: int, moment: int, ids: Sequence[str] = ("",), late_ns: int = 0, layout: str = LAYOUT
) -> PersonFrame:
    """What a camera sees at a moment: a person for each name."""
    people = np.array([seen(camera, moment, who) for who in range(len(ids))], np.float32)
    stamp, keypoints = START + moment * STEP + late_ns, people.reshape(len(ids), 17, 3)
    return PersonFrame(tuple(ids), keypoints, layout, stamp, EYES[camera], 640, 480)


def write(
    path: Path,
    left: list[PersonFrame],
    right: list[PersonFrame],
    infos: Sequence[int] = (0, 1),
) -> Path:
    recordings = [
        keypoint_recording("/left/keypoints", left),
        keypoint_recording("/right/keypoints", right),
    ]
    for camera in infos:
        info = Camera(CAMERAS[camera], 640, 480)
        recordings.append(
            camera_recording(f"/{EYES[camera]}/camera_info", info, EYES[camera], [START])
        )
    write_bag(path, recordings)
    return path


def moments(targets: TargetKeypoints) -> dict[tuple[int, int], list[tuple[int, int, int]]]:
    """(person, frame) -> camera, moment and person that its rows really show."""
    found: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for row, keypoints in enumerate(targets.keypoints):
        camera, moment, who = told(keypoints)
        assert camera == targets.camera[row]
        key = int(targets.person[row]), int(targets.frame[row])
        found.setdefault(key, []).append((camera, moment, who))
    return {key: sorted(rows) for key, rows in found.items()}


# Bags.


def test_topics_of_two_cameras_are_paired_by_their_stamps(tmp_path: Path) -> None:
    """The right camera starts later, its stamps waver, and both lose an image."""
    late = np.random.default_rng(0).integers(-5_000_000, 5_000_000, 20).tolist()
    by_camera = [m for m in range(15) if m != 11], [m for m in range(4, 20) if m != 8]
    left = [image(0, m) for m in by_camera[0]]
    right = [image(1, m, late_ns=late[m]) for m in by_camera[1]]
    targets = load_targets([f"bag:{write(tmp_path / 'bag', left, right)}?{BOTH}"])
    assert targets.names == ("/left/keypoints", "/right/keypoints")
    assert moments(targets) == {
        (0, m): [(camera, m, 0) for camera in (0, 1) if m in by_camera[camera]] for m in range(20)
    }
    assert describe(targets)["seen together"] == "18 (62 %), by up to 2 cameras"
    for camera in (0, 1):
        mine = targets.intrinsics[targets.camera == camera]
        assert (mine == CAMERAS[camera].as_array()).all()


def test_the_topic_for_all_bags_may_be_a_list_as_well(tmp_path: Path) -> None:
    images = [[image(camera, m) for m in range(3)] for camera in (0, 1)]
    path = write(tmp_path / "bag", *images)
    targets = load_targets([f"bag:{path}"], topic="/right/keypoints,/left/keypoints")
    assert targets.camera.tolist() == [0] * 3 + [1] * 3  # in the order of the list
    assert targets.person.tolist() == [0] * 6


def test_the_only_camera_info_is_not_lent_to_the_other_camera(tmp_path: Path) -> None:
    images = [[image(camera, m) for m in range(3)] for camera in (0, 1)]
    path = write(tmp_path / "bag", *images, infos=[1])
    targets = load_targets([f"bag:{path}?{BOTH}"])
    assert (targets.metric == (targets.camera == 1)).all()
    assert (targets.intrinsics[targets.camera == 1] == CAMERAS[1].as_array()).all()
    alone = load_targets([f"bag:{path}?topic=/left/keypoints"])
    assert (alone.intrinsics == CAMERAS[1].as_array()).all()  # no doubt with one camera


def test_a_clock_that_jumps_back_is_refused_for_several_cameras_only(tmp_path: Path) -> None:
    left = [image(0, m) for m in range(6)]
    right = [image(1, m) for m in (43, 44, 45, 0, 1, 2)]
    # The messages lie in the order of their recording, whatever their stamps.
    recordings = [
        keypoint_recording(f"/{n}/keypoints", i) for n, i in zip("lr", (left, right), strict=True)
    ]
    for at, message in enumerate(recordings[1].messages):
        object.__setattr__(message, "recorded_ns", START + at * STEP)
    write_bag(tmp_path / "bag", recordings)
    with pytest.raises(BagError, match=r"clock of '/r/keypoints' jumps back.*cut the bag there"):
        load_targets([f"bag:{tmp_path / 'bag'}?topic=/l/keypoints,/r/keypoints"])
    assert len(load_targets([f"bag:{tmp_path / 'bag'}?topic=/r/keypoints"])) == 6


def test_a_message_that_is_refused_does_not_disturb_the_clock(tmp_path: Path) -> None:
    """Its stamp is not read; the time of recording is another clock's."""
    left = [image(0, m) for m in range(8)]
    right = [image(1, m, layout="cocoa" if m == 3 else LAYOUT) for m in range(8)]
    recordings = [keypoint_recording("/l", left), keypoint_recording("/r", right)]
    for recording in recordings:
        for message in recording.messages:
            object.__setattr__(message, "recorded_ns", message.recorded_ns + 10 * STEP)
    write_bag(tmp_path / "bag", recordings)
    targets = load_targets([f"bag:{tmp_path / 'bag'}?topic=/l,/r"])
    assert targets.left_out == {"unknown_layout": 1}
    assert moments(targets) == {
        (0, m): [(camera, m, 0) for camera in (0, 1) if (camera, m) != (1, 3)] for m in range(8)
    }


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        ("/left/keypoints,/centre/keypoints", "no topic '/centre/keypoints'. It has keypoints on"),
        (
            "/left/keypoints,/left_eye/camera_info",
            "left_eye/camera_info.* sensor_msgs/msg/CameraInfo",
        ),
        ("/left/keypoints,", "an empty name"),
        (",", "an empty name"),
        ("/left/keypoints,/right/keypoints,/left/keypoints", "names '/left/keypoints' twice"),
        ("/left/*,/right/keypoints", r"both '\*' and ','"),
        ("/left/keypoints,/right/keypoints", "topic '/right/keypoints'"),
    ],
)
def test_lists_of_topics_that_say_nothing_clear_are_refused(
    tmp_path: Path, topic: str, says: str
) -> None:
    path = write(tmp_path / "bag", [image(0, m) for m in range(3)], [])
    with pytest.raises(BagError, match=says):
        load_targets([f"bag:{path}?topic={topic}"])


def test_one_topic_or_a_pattern_is_no_take(tmp_path: Path) -> None:
    images = [[image(camera, m, "a") for m in range(3)] for camera in (0, 1)]
    path = write(tmp_path / "bag", *images)
    for topic in ("/left/keypoints", "/left/*"):
        targets = load_targets([f"bag:{path}?topic={topic}"])
        assert targets.camera.tolist() == [0, 0, 0]
        assert (targets.person == -1).all()
        assert describe(targets)["seen together"] == "nobody by several cameras"
    with pytest.raises(BagError, match=r"left_eye.*right_eye"):
        load_targets([f"bag:{path}?topic=/*/keypoints"])


# Who is who.


def together(path: Path, left: list[Sequence[str]], right: list[Sequence[str]]) -> TargetKeypoints:
    """Two cameras that saw persons of these names, image after image."""
    images = [
        [image(camera, m, ids) for m, ids in enumerate(views)]
        for camera, views in enumerate((left, right))
    ]
    return load_targets([f"bag:{write(path, *images)}?{BOTH}"])


def test_named_persons_are_paired_by_name(tmp_path: Path) -> None:
    """Whatever their order in the image; "c" is seen by one camera alone."""
    targets = together(tmp_path / "bag", [("a", "b", "c")] * 3, [("b", "a")] * 3)
    shown = moments(targets)
    for m in range(3):
        assert shown[0, m] == [(0, m, 0), (1, m, 1)]  # a
        assert shown[1, m] == [(0, m, 1), (1, m, 0)]  # b
        assert shown[-1, m] == [(0, m, 2)]  # c


def test_a_name_that_an_image_has_twice_is_in_doubt_there(tmp_path: Path) -> None:
    targets = together(tmp_path / "bag", [("a",), ("a", "a")], [("a",), ("a",)])
    shown = moments(targets)
    assert shown[0, 0] == [(0, 0, 0), (1, 0, 0)]
    assert shown[0, 1] == [(1, 1, 0)]
    assert shown[-1, 1] == [(0, 1, 0), (0, 1, 1)]


def test_who_is_alone_needs_no_name_and_may_have_any(tmp_path: Path) -> None:
    """As trackers of two cameras give them: each counts for itself."""
    targets = together(tmp_path / "bag", [("1",), ("1",), ("4",)], [("3",)] * 3)
    shown = moments(targets)
    assert all(shown[0, m] == [(0, m, 0), (1, m, 0)] for m in range(3))


def test_of_two_without_names_nobody_knows_who_is_who(tmp_path: Path) -> None:
    targets = together(tmp_path / "bag", [("",), ("", ""), ("",)], [("",)] * 3)
    shown = moments(targets)
    assert shown[0, 0] == [(0, 0, 0), (1, 0, 0)]
    assert shown[0, 1] == [(1, 1, 0)]
    assert shown[-1, 1] == [(0, 1, 0), (0, 1, 1)]
    assert shown[0, 2] == [(0, 2, 0), (1, 2, 0)]


def test_who_is_alone_among_the_usable_counts(tmp_path: Path) -> None:
    few = person(0, 18)
    few[5:] = 0.0
    write_openpose(tmp_path / "a" / "1.json", person(0, 18), few)
    write_openpose(tmp_path / "b" / "1.json", person(0, 18))
    targets = load_targets([f"openpose:{tmp_path}?together=true"])
    assert targets.left_out == {"too_few_keypoints": 1}
    assert targets.person.tolist() == [0, 0]


def test_numbers_of_several_targets_are_kept_apart(tmp_path: Path) -> None:
    views = [("a", "b")] * 3, [("a", "c")] * 3
    together(tmp_path / "bag", *views)
    spec = f"bag:{tmp_path / 'bag'}?{BOTH}"
    once = load_targets([spec])
    thrice = load_targets([spec, f"bag:{tmp_path / 'bag'}?topic=/left/keypoints", spec])
    first, alone, last = (
        np.arange(len(once)),
        len(once) + np.arange(6),
        len(once) + 6 + np.arange(len(once)),
    )
    for name, many in (("camera", 2), ("sequence", 4), ("person", 1)):
        one, all_three = getattr(once, name), getattr(thrice, name)
        assert set(one) - {-1} == set(range(many))
        np.testing.assert_array_equal(all_three[first], one)
        extra = {"camera": 1, "sequence": 2, "person": 0}[name]
        assert len(set(all_three[alone]) - {-1}) == extra
        np.testing.assert_array_equal(all_three[last], np.where(one < 0, -1, one + many + extra))
    assert describe(thrice)["seen together"] == "12 (40 %), by up to 2 cameras"


# Other formats.


def test_a_pickle_of_aistpp_is_one_take_of_its_cameras(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a_ch01.pkl", "b_ch02.pkl"):
        keypoints = np.array([[seen(camera, m) for m in range(4)] for camera in range(9)])
        keypoints[3, 2] = np.nan
        (tmp_path / name).write_bytes(pickle.dumps({"keypoints2d": keypoints}))
    targets = load_targets([f"aistpp:{tmp_path}"])
    assert set(targets.camera) == set(range(18))
    np.testing.assert_array_equal(targets.person, targets.camera // 9)
    for take in (0, 1):
        for m in range(4):
            rows = (targets.person == take) & (targets.frame == m)
            shown = sorted(told(keypoints)[:2] for keypoints in targets.keypoints[rows])
            assert shown == [(c, m) for c in range(9) if (c, m) != (3, 2)]
    assert main(["targets", f"aistpp:{tmp_path}"]) == 0
    assert "seen together   70 (100 %), by up to 9 cameras\n" in capsys.readouterr().out


def npz(path: Path, **changes: object) -> str:
    """Two cameras in two takes, three moments each, their persons unnamed."""
    rows = [(take, camera, m) for take in (0, 1) for camera in (0, 1) for m in range(3)]
    arrays = {
        "keypoints": [seen(camera, m) for _, camera, m in rows],
        "layout": "coco_17",  # nobody looks like these made-up points
        "camera": [camera for _, camera, _ in rows],
        "frame": [10 * take + m for take, _, m in rows],
        "take": [("noon", "night")[take] for take, _, _ in rows],
    } | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return f"npz:{path}"


_OWN_NAMES = [1] * 3 + [2] * 3  # of each camera's tracker


@pytest.mark.parametrize("names", [{}, {"sequence": _OWN_NAMES * 2}, {"take": [4] * 6 + [2] * 6}])
def test_takes_in_npz(tmp_path: Path, names: dict[str, object]) -> None:
    targets = load_targets([npz(tmp_path / "k.npz", **names)])
    assert moments(targets) == {
        (take, 10 * take + m): [(0, m, 0), (1, m, 0)] for take in (0, 1) for m in range(3)
    }


def test_npz_without_takes(tmp_path: Path) -> None:
    for changes in ({"take": None}, {"take": [""] * 12}):
        assert (load_targets([npz(tmp_path / "k.npz", **changes)]).person == -1).all()


def test_takes_of_named_images(tmp_path: Path) -> None:
    names = [f"cam{camera}/{m:04d}.jpg" for camera in (0, 1) for m in range(6)]
    changes = {"imgname": names, "camera": None, "frame": None, "take": ["t"] * 12}
    targets = load_targets([npz(tmp_path / "k.npz", **changes)])
    assert targets.person.tolist() == [0] * 12
    assert targets.frame.tolist() == [*range(6)] * 2
    assert targets.camera.tolist() == [0] * 6 + [1] * 6


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"camera": None}, r"takes but no camera \(N,\)"),
        ({"frame": None}, r"takes but no frame \(N,\)"),
        ({"take": "noon"}, r"take is <U4 of shape \(\)"),
        ({"take": [0.5] * 12}, "take is float64"),
        ({"frame": [*range(3)] * 4}, r"image 0 of camera '0' .* takes \['night', 'noon'\]"),
    ],
)
def test_takes_in_npz_that_cannot_be(tmp_path: Path, changes: dict, says: str) -> None:
    with pytest.raises(TargetError, match=says) as refused:
        load_targets([npz(tmp_path / "k.npz", **changes)])
    assert "k.npz" in str(refused.value)


def write_openpose(file: Path, *people: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    entries = [{"pose_keypoints_2d": points.ravel().tolist()} for points in people]
    file.write_text(json.dumps({"people": entries}))


def test_folders_of_openpose_together(tmp_path: Path) -> None:
    """Nine cameras of two images each: what counts images is not the camera's number."""
    for camera in range(1, 10):
        for m in (3, 4):
            file = tmp_path / f"cam{camera}" / f"video_{m:012d}_keypoints.json"
            write_openpose(file, person(10 * camera + m, 18))
    targets = load_targets([f"openpose:{tmp_path}?together=true"])
    assert targets.camera.tolist() == np.repeat(range(9), 2).tolist()
    assert targets.frame.tolist() == [3, 4] * 9
    assert targets.person.tolist() == [0] * 18
    shifts = targets.keypoints[:, 0, 0] - 50
    np.testing.assert_allclose(shifts, 10 * (targets.camera + 1) + targets.frame, atol=1e-3)
    apart = load_targets([f"openpose:{tmp_path}?together=false"])
    assert (apart.person == -1).all()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["a/1.json"], "there is only a"),
        (["1.json", "2.json"], r"1\.json "),
        (["a/1.json", "b/1.json", "note.json"], r"note\.json "),
        (
            ["a/x1.json", "a/x2.json", "a/y1.json", "b/x1.json"],
            r"a has images of 2: a/x#.json, a/y#.json",
        ),
    ],
)
def test_folders_that_are_no_cameras_are_refused(
    tmp_path: Path, files: list[str], says: str
) -> None:
    for file in files:
        write_openpose(tmp_path / file, person(0, 18))
    with pytest.raises(TargetError, match=says):
        load_targets([f"openpose:{tmp_path}?together=true"])
    with pytest.raises(TargetError, match="together is 'yes'"):
        load_targets([f"openpose:{tmp_path}?together=yes"])


# Moments.


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_moment_has_one_number(data: st.DataObject) -> None:
    """Whatever a camera misses, and though no step is as long as the one before."""
    count = 20
    gaps = data.draw(st.lists(st.integers(950, 1050), min_size=count, max_size=count))
    times = np.cumsum(gaps)
    streams, truth = [], []
    for _ in range(data.draw(st.integers(2, 4))):
        first = data.draw(st.integers(0, 4))
        lost = data.draw(st.sets(st.integers(0, count - 1), max_size=4))
        kept = [m for m in range(first, count) if m not in lost]
        late = data.draw(st.lists(st.integers(-90, 90), min_size=count, max_size=count))
        streams.append([int(times[m]) + late[m] for m in kept])
        truth.append(kept)
    numbers = moment_numbers(streams)
    start = min(kept[0] for kept in truth)
    for kept, found in zip(truth, numbers, strict=True):
        assert found.tolist() == [m - start for m in kept]


def test_a_step_that_is_not_quite_right_does_not_add_up() -> None:
    """Two of three gaps are longer than the third: their median is no measure of an hour."""
    times = START + np.cumsum(np.tile([34, 34, 31], 1000)) * 1_000_000
    first = [m for m in range(3000) if m % 500 != 7]
    second = [m for m in range(1000, 3000) if m % 400 != 9]
    numbers = moment_numbers([times[first].tolist(), times[second].tolist()])
    assert numbers[0].tolist() == first
    assert numbers[1].tolist() == second


def test_moments_of_few_images() -> None:
    assert [one.tolist() for one in moment_numbers([[], []])] == [[], []]
    assert [one.tolist() for one in moment_numbers([[], [7, 8]])] == [[], [0, 1]]
    assert [one.tolist() for one in moment_numbers([[7], [7]])] == [[0], [0]]
    assert [one.tolist() for one in moment_numbers([[0, 0, 100], [0, 100]])] == [[0, 1, 2], [1, 2]]
