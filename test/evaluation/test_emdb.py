# SPDX-License-Identifier: Apache-2.0
"""EMDB in its official layout, against an oracle by `smplx`."""

import pickle

import numpy as np
import pytest
from helpers_benchmarks import moved, write_emdb, write_openpose

from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation.benchmarks import protocols
from key2mesh_core.evaluation.benchmarks.config import EmdbConfig
from key2mesh_core.evaluation.benchmarks.run import evaluate_benchmark, evaluate_emdb
from key2mesh_core.recordings import emdb

NAME = "P1/14_outdoor_climb"


def measure(mine, root, predictor, detections=None):
    config = EmdbConfig(root=root, body_folder=mine.folder, output=root / "out")
    protocol = protocols.emdb(detections is None, 1)
    return evaluate_benchmark(config, protocol, emdb.sequences(root, detections), None, predictor)


def test_a_perfect_prediction_scores_zero_and_one_of_its_mirror_image_does_not(
    mine, tmp_path
) -> None:
    oracle, _, _ = write_emdb(mine, tmp_path)
    write_emdb(mine, tmp_path, "P2/20_outdoor_walk", emdb1=False)
    report = measure(mine, tmp_path, oracle.predictor())
    assert [sequence.name for sequence in report.sequences] == [NAME]
    assert report.sequences[0].images == [[0, 1, 3, 4, 5, 6, 7]]  # the third is bad
    assert max(report.mean(m) for m in ("pa_mpjpe_mm", "mpjpe_mm", "pve_mm")) < 0.01
    assert "a bound" in report.to_markdown()
    mirror = np.diag([-1.0, 1.0, 1.0])
    mirrored = oracle.predictor(lambda m: moved(m, mirror, 1.0, np.zeros(3)), "mirrored")
    assert measure(mine, tmp_path, mirrored).mean("pa_mpjpe_mm") > 20


def test_scale_costs_pa_nothing_and_mpjpe_the_distance_from_the_hips(mine, tmp_path) -> None:
    oracle, _, _ = write_emdb(mine, tmp_path)
    changed = oracle.predictor(lambda m: moved(m, np.eye(3), 1.25, np.ones(3)))
    report = measure(mine, tmp_path, changed)
    joints = np.array([mesh.joints for mesh in oracle.meshes])[[0, 1, 3, 4, 5, 6, 7]]
    far = np.linalg.norm(joints - joints[:, 1:3].mean(1, keepdims=True), axis=2).mean()
    assert report.mean("pa_mpjpe_mm") < 0.01
    assert report.mean("mpjpe_mm") == pytest.approx(250 * far, rel=1e-4)


def test_detections_are_the_person_in_the_box(mine, tmp_path) -> None:
    oracle, found, _ = write_emdb(mine, tmp_path)
    for image in (0, 1, 2, 3, 6, 7):  # 4 and 5 are missing
        far = found[image] + [4000.0, 0, 0.1]  # somebody else, more confident
        nobody = image == 7
        people = [far] if nobody else [far, found[image]]
        write_openpose(tmp_path / f"openpose/{NAME}/{image:05}_keypoints.json", people)
    report = measure(mine, tmp_path, oracle.predictor(), tmp_path / "openpose")
    assert report.sequences[0].images == [[0, 1, 3, 6]]
    assert report.left_out() == {"invalid": 1, "undetected": 3, "too_few_keypoints": 0}
    assert report.mean("pa_mpjpe_mm") < 0.01
    assert "a bound" not in report.to_markdown()


def test_a_good_image_needs_a_finite_camera_and_a_bad_one_does_not(mine, tmp_path) -> None:
    oracle, _, path = write_emdb(mine, tmp_path)
    content = pickle.loads(path.read_bytes())
    content["camera"]["extrinsics"][2] = np.nan  # the bad one
    path.write_bytes(pickle.dumps(content))
    assert measure(mine, tmp_path, oracle.predictor()).mean("pa_mpjpe_mm") < 0.01
    content["camera"]["extrinsics"][3] = np.nan
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(EvaluationError, match=r"camera of a valid image is not finite"):
        measure(mine, tmp_path, oracle.predictor())


def test_missing_detections_and_broken_files_are_refused(mine, tmp_path) -> None:
    oracle, _, path = write_emdb(mine, tmp_path)
    with pytest.raises(EvaluationError, match="has no detections: run OpenPose"):
        measure(mine, tmp_path, oracle.predictor(), tmp_path / "absent")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(EvaluationError, match="truncated"):
        measure(mine, tmp_path, oracle.predictor())
    path.write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with pytest.raises(EvaluationError, match="refused"):
        measure(mine, tmp_path, oracle.predictor())
    path.unlink()
    with pytest.raises(EvaluationError, match="P0 to P9"):
        evaluate_emdb(EmdbConfig(root=tmp_path, body_folder=mine.folder))
