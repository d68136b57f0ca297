# SPDX-License-Identifier: Apache-2.0
"""The AIST++ reader and measurement, on files made here with the official layout."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers_aistpp import CAMERAS, FRAMES, Oracle, Studio

from key2mesh_core.camera.pinhole import Intrinsics
from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.aistpp import COCO_LIMB_JOINTS, evaluate_aistpp
from key2mesh_core.recordings import aistpp


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def test_the_truth_itself_has_no_error_in_any_camera(studio: Studio) -> None:
    result = studio.measure(Oracle(studio))
    assert result.frames_mm.shape == (CAMERAS, FRAMES)
    np.testing.assert_allclose(result.frames_mm, 0.0, atol=1e-3)
    np.testing.assert_allclose(result.joints_mm, 0.0, atol=1e-3)
    assert result.truth_reprojection_px.max() < 0.01
    assert result.in_step.all()
    assert result.measured == CAMERAS * FRAMES


def test_a_wrong_wrist_shows_in_its_joint_and_in_the_mean(studio: Studio) -> None:
    oracle = Oracle(studio)

    def predict(keypoints: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
        joints = oracle(keypoints, intrinsics)
        joints[:, 20, 0] += 0.3  # left wrist
        return joints

    result = studio.measure(predict)
    assert np.argmax(result.joints_mm) == 4
    assert result.mean_mm == pytest.approx(result.joints_mm.mean())
    assert 10 < result.mean_mm < 300
    assert result.mpjpe_mm == pytest.approx(300 / 12, abs=0.01)


def test_a_body_elsewhere_of_another_size_errs_by_its_size(studio: Studio) -> None:
    """The hips' middle is aligned, the size is not: MPJPE is that of a tenth of the body."""
    oracle = Oracle(studio)
    result = studio.measure(lambda *seen: 1.1 * oracle(*seen) + [0.2, 0, 1])
    assert result.mean_mm == pytest.approx(0, abs=1e-3)
    limbs = studio.joints[:, COCO_LIMB_JOINTS]
    hips = limbs[:, 6:8].mean(axis=1, keepdims=True)
    expected = 100 * np.linalg.norm(limbs - hips, axis=2).mean()
    assert result.mpjpe_mm == pytest.approx(expected, rel=1e-3)


def test_left_and_right_exchanged_is_an_error(studio: Studio) -> None:
    oracle = Oracle(studio)
    exchanged = [1, 0, 2, 4, 3, 5, 7, 6, 8, 10, 9, 11, 12, 14, 13, 15, 17, 16]
    exchanged += [19, 18, 21, 20, 23, 22]

    def predict(keypoints: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
        return oracle(keypoints, intrinsics)[:, exchanged]

    assert studio.measure(predict).mean_mm > 50


def test_the_lens_is_taken_out(studio: Studio) -> None:
    oracle = Oracle(studio)
    studio.measure(oracle)
    for camera, keypoints in enumerate(oracle.seen):
        ideal = studio.in_camera(camera)
        ideal = ideal[..., :2] / ideal[..., 2:] * 1400.0 + [960, 540]
        np.testing.assert_allclose(keypoints[:, 4, :2], ideal[:, 10], atol=0.01)  # right wrist
        np.testing.assert_allclose(keypoints[:, 13, :2], ideal[:, 15], atol=0.01)  # left ankle


def test_frames_without_enough_keypoints_or_truth_do_not_count(studio: Studio) -> None:
    studio.keypoints[2, 3, 5:] = np.nan  # five points of the face are left
    studio.keypoints[2, 4, :, 2] = 0.05  # nothing is certain
    studio.valid[7, 5:12] = False  # five limb joints are left
    studio.valid[8, 5:11] = False  # six are
    studio.joints[8, 5:11] = np.nan
    oracle = Oracle(studio)

    def predict(keypoints: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
        camera = oracle.calls
        joints = np.nan_to_num(oracle(keypoints, intrinsics), nan=3.0)
        return np.delete(joints, [3, 4, 7] if camera == 2 else [7], axis=0)

    result = studio.measure(predict)
    left_out = np.argwhere(np.isnan(result.frames_mm)).tolist()
    assert left_out == [[0, 7], [1, 7], [2, 3], [2, 4], [2, 7], [3, 7]]
    assert result.mean_mm == pytest.approx(0.0, abs=1e-3)


def test_a_camera_out_of_step_is_found_but_stays_in_the_headline(studio: Studio) -> None:
    noise = np.random.default_rng(0).normal(size=studio.keypoints.shape)
    studio.keypoints[..., :2] += 2 * noise[..., :2].astype(np.float32)
    studio.keypoints[1] = studio.keypoints[1, ::-1]
    oracle = Oracle(studio)

    def predict(keypoints: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
        late = oracle.calls == 1
        joints = oracle(keypoints, intrinsics)
        return joints[::-1] if late else joints

    result = studio.measure(predict)
    assert result.in_step.tolist() == [True, False, True, True]
    assert result.in_step_mean_mm == pytest.approx(0.0, abs=1e-3)
    assert result.mean_mm == pytest.approx(np.mean(result.camera_means_mm))
    assert result.mean_mm > 1


def test_a_prediction_of_another_shape_or_not_finite_is_refused(studio: Studio) -> None:
    with pytest.raises(EvaluationError, match=r"\(30, 17, 3\)"):
        studio.measure(lambda keypoints, _: np.zeros((len(keypoints), 17, 3)))
    with pytest.raises(EvaluationError, match="not finite"):
        studio.measure(lambda keypoints, _: np.full((len(keypoints), 24, 3), np.nan))


def test_missing_files_and_sequences_are_named(studio: Studio, tmp_path: Path) -> None:
    studio.write()
    with pytest.raises(EvaluationError, match="ch09"):
        evaluate_aistpp(Oracle(studio), studio.folder, studio.truth_file, ["ch09"])
    with pytest.raises(EvaluationError, match="0 files named"):
        evaluate_aistpp(Oracle(studio), tmp_path, studio.truth_file, ["ch03"])
    with pytest.raises(EvaluationError, match=r"nowhere\.npz"):
        evaluate_aistpp(Oracle(studio), studio.folder, tmp_path / "nowhere.npz", ["ch03"])
    whole = studio.truth_file.read_bytes()
    studio.truth_file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EvaluationError, match=r"truth\.npz"):
        aistpp.read_truth(studio.truth_file)
    np.savez(studio.truth_file, K=np.eye(3)[None])
    with pytest.raises(EvaluationError, match="'k1', 'R', 't'"):
        aistpp.read_truth(studio.truth_file)


class _Intruder:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_that_would_run_a_command_is_refused_by_name(tmp_path: Path) -> None:
    marker, file = tmp_path / "ran", tmp_path / "x_ch03.pkl"
    file.write_bytes(pickle.dumps({"keypoints2d": _Intruder(marker)}))
    with pytest.raises(EvaluationError, match=r"posix\.system"):
        aistpp.read_keypoints(file)
    assert not marker.exists()


def test_an_object_array_cannot_smuggle_a_class(tmp_path: Path) -> None:
    file = tmp_path / "x_ch03.pkl"
    content = {"keypoints2d": np.array([_Intruder(tmp_path / "ran")], dtype=object)}
    file.write_bytes(pickle.dumps(content))
    with pytest.raises(EvaluationError, match=r"posix\.system"):
        aistpp.read_keypoints(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    keypoints = np.random.default_rng(0).normal(size=(2, 3, 17, 3)).astype(np.float32)
    content = {"keypoints2d": keypoints, "scale": np.float64(2.5), "names": ["a", 1]}
    file = tmp_path / "x_ch03.pkl"
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    np.testing.assert_array_equal(aistpp.read_keypoints(file), keypoints)
    older = pickle.dumps(content, protocol=3).replace(b"numpy._core", b"numpy.core")
    file.write_bytes(older)
    np.testing.assert_array_equal(aistpp.read_keypoints(file), keypoints)


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_truncated_pickle_is_named(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "x_ch03.pkl"
    file.write_bytes(pickle.dumps({"keypoints2d": np.zeros((2, 3, 17, 3))})[:kept])
    with pytest.raises(EvaluationError, match=r"x_ch03\.pkl"):
        aistpp.read_keypoints(file)


@pytest.mark.parametrize("content", [3, {}, {"keypoints2d": np.zeros((2, 3, 18, 3))}])
def test_other_content_is_refused(tmp_path: Path, content: object) -> None:
    file = tmp_path / "x_ch03.pkl"
    file.write_bytes(pickle.dumps(content))
    with pytest.raises(EvaluationError, match="keypoints2d"):
        aistpp.read_keypoints(file)
