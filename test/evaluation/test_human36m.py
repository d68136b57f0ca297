# SPDX-License-Identifier: Apache-2.0
"""Human3.6M in the layouts of SPIN and VideoPose3D, against an oracle by `smplx`."""

import zipfile

import numpy as np
import pytest
from helpers_benchmarks import (
    J14,
    SPIN_24,
    Oracle,
    detections,
    motion,
    moved,
    write_openpose,
)

from key2mesh_core.camera.lens import distort_pixels
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.benchmarks import protocols
from key2mesh_core.evaluation.benchmarks.config import Human36mConfig
from key2mesh_core.evaluation.benchmarks.run import evaluate_benchmark
from key2mesh_core.recordings import human36m

FRAMES = 30
CAMERA = human36m.CAMERA
#: Human3.6M's 32 joints among the 17 of the regressor; others are not used.
OF_32 = {0: 0, 6: 1, 7: 2, 8: 3, 1: 4, 2: 5, 3: 6, 12: 7, 13: 8, 14: 9, 15: 10} | {
    17: 11, 18: 12, 19: 13, 25: 14, 26: 15, 27: 16,
}  # fmt: skip


class Studio:
    """Somebody in front of the frontal camera, as (subject, action) -> 17 joints and detections."""

    def __init__(self, mine) -> None:
        k = CAMERA.intrinsics
        matrix = np.array([[k.fx, 0, k.cx], [0, k.fy, k.cy], [0, 0, 1]])
        self.oracle, self.joints, self.seen = Oracle(), {}, {}
        for seed, who in enumerate([("S9", "Directions 1"), ("S11", "TakingPhoto"), ("S1", "Sit")]):
            meshes = mine.meshes("neutral", np.zeros(10), motion(FRAMES, seed))
            self.joints[who] = np.einsum("jv,nvc->njc", mine.matrix, meshes.vertices)
            exact = detections(mine, meshes, np.array([0.1, 0.1, 5.0]), matrix)
            self.oracle.learn(exact, meshes)
            bent = exact.copy()
            bent[..., :2] = distort_pixels(exact[..., :2], k, CAMERA.lens)
            self.seen[who] = bent

    def write_spin(self, path, openpose=False):
        names, truth, found = [], [], []
        for (subject, action), joints in self.joints.items():
            for frame in range(0, FRAMES, 5):
                camera = "60457274" if frame != 10 else "54138969"
                seq = f"{subject}_{action.replace(' ', '_')}.{camera}_{frame + 1:06}"
                names.append(f"images/{seq}.jpg")
                rows = np.zeros((24, 4))
                rows[list(SPIN_24), :3] = joints[frame] - joints[frame, :1]
                rows[list(SPIN_24), 3] = 1
                truth.append(rows)
                found.append(_body_25(self.seen[subject, action][frame]))
        arrays = {"imgname": np.array(names), "S": np.array(truth), "center": np.zeros(len(names))}
        np.savez(path, **(arrays | ({"openpose": np.array(found)} if openpose else {})))
        return path

    def write_videopose3d(self, path):
        positions = {}
        for (subject, action), joints in self.joints.items():
            q = human36m.CAMERA_TO_WORLD_QUATERNIONS.get(subject, (1.0, 0.0, 0.0, 0.0))
            world = _rotated(np.array(q), joints) + np.array([1.0, 2.0, 0.5])
            full = np.full((FRAMES, 32, 3), 9.0, np.float32)
            full[:, list(OF_32)] = world[:, list(OF_32.values())]
            positions.setdefault(subject, {})[action.replace("Taking", "")] = full
        np.savez_compressed(path, positions_3d=positions)
        return path


def _body_25(seen: np.ndarray) -> np.ndarray:
    """(25, 3) OpenPose's default layout of its COCO keypoints (18, 3); no feet."""
    body = np.zeros((25, 3))
    body[[*range(8), *range(9, 19)]] = seen
    body[8] = seen[[8, 11]].mean(0)
    return body


def _rotated(q: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points rotated by a quaternion (w, x, y, z), as VideoPose3D's `qrot` does."""
    w, v = q[0], q[1:]
    twice = 2 * np.cross(v, points)
    return points + w * twice + np.cross(v, twice)


@pytest.fixture(scope="module")
def studio(mine) -> Studio:
    return Studio(mine)


def measure(mine, folder, truth, predictor, found=None, centre="hips"):
    config = Human36mConfig(
        root=truth, body_folder=mine.folder, regressor=mine.regressor, output=folder / "out"
    )
    sequences = human36m.sequences(truth, found)
    return evaluate_benchmark(
        config, protocols.human36m(centre), sequences, mine.regressor, predictor
    )


@pytest.mark.parametrize("centre", ["hips", "pelvis"])
def test_spins_file_with_its_own_detections(mine, studio, tmp_path, centre) -> None:
    truth = studio.write_spin(tmp_path / "h36m_valid_protocol2.npz", openpose=True)
    report = measure(mine, tmp_path, truth, studio.oracle.predictor(), centre=centre)
    assert [s.name for s in report.sequences] == ["S11 Photo", "S9 Directions 1"]
    assert report.sequences[1].images == [[0, 5, 15, 20, 25]]  # 10 is another camera's
    assert report.mean("pa_mpjpe_mm") < 0.01
    assert report.mean("mpjpe_mm") < 0.01
    assert np.isnan(report.mean("pve_mm"))
    assert ("51.4" in report.to_markdown()) == (centre == "hips")


def test_a_similarity_and_a_mirror_image(mine, studio, tmp_path) -> None:
    truth = studio.write_spin(tmp_path / "h36m_valid_protocol2.npz", openpose=True)
    larger = studio.oracle.predictor(lambda m: moved(m, np.eye(3), 1.5, np.ones(3)), "larger")
    report = measure(mine, tmp_path, truth, larger, centre="pelvis")
    joints = np.concatenate(
        [studio.joints[who][[0, 5, 15, 20, 25]] for who in list(studio.joints)[:2]]
    )
    scored = joints[:, J14]
    far = np.linalg.norm(scored - joints[:, :1], axis=2).mean()
    assert report.mean("pa_mpjpe_mm") < 0.01
    assert report.mean("mpjpe_mm") == pytest.approx(500 * far, rel=1e-4)
    mirror = np.diag([-1.0, 1.0, 1.0])
    mirrored = studio.oracle.predictor(lambda m: moved(m, mirror, 1.0, np.zeros(3)), "mirrored")
    assert measure(mine, tmp_path, truth, mirrored).mean("pa_mpjpe_mm") > 20


def test_detections_of_images_and_of_videos(mine, studio, tmp_path) -> None:
    truth = studio.write_spin(tmp_path / "h36m_valid_protocol2.npz")
    images, videos = tmp_path / "images", tmp_path / "videos"
    for (subject, action), seen in studio.seen.items():
        for frame in range(0, FRAMES, 5):
            name = f"{subject}_{action.replace(' ', '_')}.60457274_{frame + 1:06}"
            few = seen[frame] * ([[1.0]] * 5 + [[0.0]] * 13) if frame == 5 else seen[frame]
            if frame != 0:
                write_openpose(images / f"{name}_keypoints.json", [few])
            name = f"{action}.60457274_{frame:012}_keypoints.json"
            write_openpose(videos / subject / "Videos" / name, [0.5 * seen[frame], seen[frame]])
    report = measure(mine, tmp_path, truth, studio.oracle.predictor(), images)
    assert report.left_out() == {"invalid": 0, "undetected": 2, "too_few_keypoints": 2}
    assert (report.images, report.mean("mpjpe_mm") < 0.01) == (6, True)
    lifted = studio.write_videopose3d(tmp_path / "data_3d_h36m.npz")
    report = measure(mine, tmp_path, lifted, studio.oracle.predictor(), videos)
    assert {s.name for s in report.sequences} == {"S9 Directions 1", "S11 Photo"}
    assert report.images == 12  # of this file, the tenth frame counts, too
    assert report.mean("pa_mpjpe_mm") < 0.05
    assert report.mean("mpjpe_mm") < 0.05


def test_an_image_that_shows_little_has_the_layout_of_the_others(mine, studio, tmp_path) -> None:
    """Alone, an arm and a leg fit both of OpenPose's layouts of 25 keypoints."""
    truth = studio.write_spin(tmp_path / "h36m_valid_protocol2.npz")
    for (subject, action), seen in studio.seen.items():
        for frame in range(0, FRAMES, 5):
            body = _body_25(seen[frame])
            if frame == 5:
                body[[0, 1, 2, 8, *range(15, 19)]] = 0
            name = f"{subject}_{action.replace(' ', '_')}.60457274_{frame + 1:06}_keypoints.json"
            write_openpose(tmp_path / "images" / name, [body])
    report = measure(mine, tmp_path, truth, studio.oracle.predictor(), tmp_path / "images")
    assert [sequence.images for sequence in report.sequences] == [[[0, 5, 15, 20, 25]]] * 2
    assert report.mean("pa_mpjpe_mm") < 0.01


def test_missing_detections_and_other_files_are_refused(mine, studio, tmp_path) -> None:
    truth = studio.write_spin(tmp_path / "spin.npz")
    (tmp_path / "empty").mkdir()
    for found, words in ((None, "no detections: run OpenPose"), (tmp_path / "empty", "is named")):
        with pytest.raises(EvaluationError, match=words):
            measure(mine, tmp_path, truth, studio.oracle.predictor(), found)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("not a zip")
    for name, words in (("other", "neither imgname and S"), ("text", "cannot be read")):
        with pytest.raises(EvaluationError, match=words):
            measure(mine, tmp_path, tmp_path / f"{name}.npz", studio.oracle.predictor())


def test_a_hostile_or_foreign_object_in_videopose3ds_file_is_refused(tmp_path) -> None:
    class Hostile:
        def __reduce__(self):
            return (print, ("hacked",))

    for content, words in (
        ({"S9": Hostile()}, "refused"),
        ([1, 2], "numbers|dictionary"),
        ({"S9": {}}, "no subject S11"),
        ({"S9": {"Sit": np.zeros((5, 17, 3))}, "S11": {}}, "shape"),
    ):
        stored = np.empty((), object)
        stored[()] = content
        np.savez(tmp_path / "data.npz", positions_3d=stored)
        with pytest.raises(EvaluationError, match=words):
            human36m.sequences(tmp_path / "data.npz")


def test_a_damaged_header_is_refused_like_any_other_damage(studio, tmp_path) -> None:
    """numpy's parser of headers raises tokenize.TokenError for an open bracket."""
    broken = b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8' ("
    for name, key in (("spin.npz", "S"), ("vp.npz", "positions_3d")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("imgname.npy", broken)
            archive.writestr(f"{key}.npy", broken)
        with pytest.raises(EvaluationError, match="cannot be read"):
            human36m.sequences(tmp_path / name)
