# SPDX-License-Identifier: Apache-2.0
"""3DPW in its official layout, against an oracle by `smplx` and scipy's Procrustes analysis."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_benchmarks import J14, moved, save_3dpw, write_3dpw
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.transform import Rotation

from key2mesh_core.errors import BodyFileError, EvaluationError, Key2MeshError
from key2mesh_core.evaluation.benchmarks import protocols
from key2mesh_core.evaluation.benchmarks.config import ThreeDPWConfig
from key2mesh_core.evaluation.benchmarks.run import evaluate_3dpw, evaluate_benchmark
from key2mesh_core.recordings import threedpw
from key2mesh_core.recordings.open import open_recording

IMAGES = 10 + 10 - 2  # two invalid camera poses for both, one image each without keypoints


def measure(mine, root, output, predictor, truth="neutral", centre="hips", **changes):
    """A report of the miniature's test split."""
    config = ThreeDPWConfig(
        root=root, body_folder=mine.folder, regressor=mine.regressor, output=output, **changes
    )
    protocol = protocols.threedpw("test", truth, centre, 1)
    sequences = threedpw.sequences(root, "test")
    return evaluate_benchmark(config, protocol, sequences, mine.regressor, predictor)


def errors(report) -> tuple[float, float, float]:
    return tuple(report.mean(name) for name in ("pa_mpjpe_mm", "mpjpe_mm", "pve_mm"))


@pytest.mark.parametrize("truth", ["neutral", "gendered"])
@pytest.mark.parametrize("centre", ["hips", "pelvis"])
def test_a_perfect_prediction_scores_zero(mine, tmp_path, truth, centre) -> None:
    oracle, _ = write_3dpw(mine, tmp_path, truth)
    report = measure(mine, tmp_path, tmp_path / "out", oracle.predictor(), truth, centre)
    assert report.images == IMAGES
    assert report.left_out() == {"invalid": 4, "undetected": 1, "too_few_keypoints": 1}
    assert max(errors(report)) < 0.01
    # With the other truth, the same prediction is wrong by the difference of the bodies.
    other = {"neutral": "gendered", "gendered": "neutral"}[truth]
    wrong = measure(mine, tmp_path, tmp_path / "other", oracle.predictor(), other, centre)
    assert min(errors(wrong)) > 3
    assert ("the paper has no row" in wrong.to_markdown().lower()) == (
        (other, centre) != ("neutral", "hips")
    )


def test_a_similarity_costs_pa_nothing_and_mpjpe_what_geometry_says(mine, tmp_path) -> None:
    oracle, _ = write_3dpw(mine, tmp_path, "gendered")
    turn = Rotation.from_rotvec([0.0, 0.0, 0.5]).as_matrix()
    changed = oracle.predictor(lambda m: moved(m, turn, 1.1, np.array([1.0, 2.0, 3.0])))
    report = measure(mine, tmp_path, tmp_path / "out", changed, "gendered", "pelvis")
    pa, mpjpe, pve = errors(report)
    assert pa < 0.01
    expected = np.zeros(2)
    vertices = np.array([mesh.vertices for mesh in oracle.meshes])
    kept = [i for i in range(24) if i % 12 not in (1, 7) and i not in (3, 16)]
    joints = np.einsum("jv,nvc->njc", mine.matrix, vertices[kept])
    for points, scored in ((joints, list(J14)), (vertices[kept], slice(None))):
        offsets = (points - joints[:, :1])[:, scored]
        distances = np.linalg.norm(1.1 * offsets @ turn.T - offsets, axis=2)
        expected[0 if points is joints else 1] = 1000 * distances.mean()
    np.testing.assert_allclose((mpjpe, pve), expected, rtol=1e-4)


def test_a_mirrored_prediction_is_not_forgiven(mine, tmp_path) -> None:
    oracle, _ = write_3dpw(mine, tmp_path, "neutral")
    mirror = np.diag([-1.0, 1.0, 1.0])
    changed = oracle.predictor(lambda m: moved(m, mirror, 1.0, np.zeros(3)))
    assert errors(measure(mine, tmp_path, tmp_path / "out", changed))[0] > 20


def test_metrics_equal_an_independent_implementation(mine, tmp_path) -> None:
    oracle, _ = write_3dpw(mine, tmp_path, "neutral")
    rng = np.random.default_rng(1)
    noise = 0.02 * rng.normal(size=oracle.meshes[0].vertices.shape)
    noise[:, 1] += 0.2 * oracle.meshes[0].vertices[:, 0] ** 2

    def noisy(meshes):
        return type(meshes)(meshes.vertices + noise, meshes.joints, meshes.origin)

    report = measure(mine, tmp_path, tmp_path / "out", oracle.predictor(noisy))
    rows = [[i for i in range(12) if i not in (1, 7, left)] for left in (3, 4)]
    for person in range(2):
        found = report.sequences[0].pa_mpjpe_mm[person]
        centred = report.sequences[0].mpjpe_mm[person]
        for value, mpjpe, image in zip(found, centred, rows[person], strict=True):
            true = mine.matrix[list(J14)] @ oracle.meshes[12 * person + image].vertices
            points = mine.matrix[list(J14)] @ (oracle.meshes[12 * person + image].vertices + noise)
            assert value == pytest.approx(_procrustes_mm(points, true), abs=0.02)
            hips = (points[[2, 3]].mean(0), true[[2, 3]].mean(0))
            distance = np.linalg.norm((points - hips[0]) - (true - hips[1]), axis=1).mean()
            assert mpjpe == pytest.approx(1000 * distance, abs=0.02)


def _procrustes_mm(points: np.ndarray, true: np.ndarray) -> float:
    """PA-MPJPE by scipy; the miniature's best orthogonal matrix is a rotation."""
    points, true = points - points.mean(0), true - true.mean(0)
    matrix, scale = orthogonal_procrustes(points, true)
    assert np.linalg.det(matrix) > 0
    aligned = points @ matrix * scale / (points**2).sum()
    return 1000 * np.linalg.norm(aligned - true, axis=1).mean()


def test_an_interrupted_run_measures_only_what_is_missing(mine, tmp_path, capsys) -> None:
    oracle, content = write_3dpw(mine, tmp_path, "neutral")
    save_3dpw(tmp_path, content | {"sequence": "downtown_walk_01"})
    whole = measure(mine, tmp_path, tmp_path / "out", oracle.predictor())
    assert "Incomplete" not in whole.to_markdown()
    calls = oracle.calls
    (tmp_path / "out/sequences/downtown_walk_01.json").unlink()
    again = measure(mine, tmp_path, tmp_path / "out", oracle.predictor())
    assert (again.to_json(), oracle.calls) == (whole.to_json(), calls + calls // 2)
    out = capsys.readouterr().out
    assert "[1/2] downtown_walk_00: 18 images" in out
    assert "resumed" in out
    # Another protocol, another model or newer data is another result.
    measure(mine, tmp_path, tmp_path / "out", oracle.predictor(), centre="pelvis")
    measure(mine, tmp_path, tmp_path / "out", oracle.predictor(name="another"))
    save_3dpw(tmp_path, content)
    measure(mine, tmp_path, tmp_path / "out", oracle.predictor(name="another"))
    assert oracle.calls == calls + calls // 2 + 3 * calls


def test_reports_name_the_protocol_and_the_published_rows(mine, tmp_path) -> None:
    oracle, _ = write_3dpw(mine, tmp_path, "neutral")
    report = measure(mine, tmp_path, tmp_path / "out", oracle.predictor())
    text = (tmp_path / "out/report.md").read_text()
    for words in ("14 joints", "neutral SMPL", "midpoint of the hips", "49.8", "2404.07094"):
        assert words in text
    content = json.loads((tmp_path / "out/report.json").read_text(), parse_constant=pytest.fail)
    assert content["images"] == IMAGES
    assert content["protocol"]["truth"] == "neutral"
    assert [len(x) for x in content["sequences"][0]["pve_mm"]] == [9, 9]
    assert content["pa_mpjpe_mm"] == pytest.approx(report.mean("pa_mpjpe_mm"))


def test_detections_are_a_recording_to_adapt_to(mine, tmp_path) -> None:
    _, content = write_3dpw(mine, tmp_path, "neutral", split="train")
    frames = list(open_recording(f"3dpw:{tmp_path}"))
    assert [len(frame) for frame in frames] == [2, 2, 1, 1, 2, 2, 2, 2, 2, 2]
    assert frames[0].camera.intrinsics.fx == 1961
    assert (frames[0].width, frames[0].height) == (1080, 1920)
    np.testing.assert_allclose(
        frames[0].keypoints[1, :, :2].T, content["poses2d"][1][0, :2], rtol=1e-5
    )
    again = list(open_recording(f"3dpw:{tmp_path}?split=train&fps=60"))
    assert len(again) == len(frames)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: {"poses2d": c["poses2d"][:1]}, "actor is missing"),
        (lambda c: {"poses": [c["poses"][0][:5], c["poses"][1]]}, "shape"),
        (lambda c: {"genders": ["f", "x"]}, "gender 'x'"),
        (lambda c: {"betas": [c["betas"][0][:3], c["betas"][1]]}, "3 betas"),
        (lambda c: {"cam_intrinsics": None}, "cam_intrinsics"),
        (lambda c: {"poses2d": [0 * x for x in c["poses2d"]]}, "no image"),
        (lambda c: {"poses": [c["poses"][0] * np.nan, c["poses"][1]]}, "not finite"),
    ],
)
def test_broken_sequences_are_refused_by_name(mine, tmp_path, change, words) -> None:
    oracle, content = write_3dpw(mine, tmp_path, "neutral")
    changed = content | change(content)
    save_3dpw(tmp_path, {key: value for key, value in changed.items() if value is not None})
    with pytest.raises(EvaluationError, match=words):
        measure(mine, tmp_path, tmp_path / "out", oracle.predictor())


def test_truncated_and_hostile_pickles_are_refused(mine, tmp_path) -> None:
    write_3dpw(mine, tmp_path, "neutral")
    path = tmp_path / "sequenceFiles/test/downtown_walk_00.pkl"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EvaluationError, match="truncated"):
        threedpw.read_sequence(path)
    path.write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with pytest.raises(EvaluationError, match="refused"):
        threedpw.read_sequence(path)
    assert not Path("hacked").exists()


def _config(mine, root, **changes) -> ThreeDPWConfig:
    given = {"body_folder": mine.folder, "regressor": mine.regressor, "output": root / "out"}
    return ThreeDPWConfig(root=root, **(given | changes))


def test_wrong_regressors_are_refused(mine, tmp_path) -> None:
    write_3dpw(mine, tmp_path, "neutral")
    swapped = mine.matrix[[0, 4, 5, 6, 1, 2, 3, *range(7, 17)]]  # VideoPose3D's order
    body = np.load(mine.folder / "SMPL_NEUTRAL.npz")
    for name, matrix, words in (
        ("smpl24", body["J_regressor"].astype(float), r"\(24, 6890\)"),
        ("transposed", mine.matrix.T, r"\(6890, 17\)"),
        ("doubled", 2 * mine.matrix, "sum"),
        ("swapped", swapped, "order"),
    ):
        np.save(tmp_path / f"{name}.npy", matrix)
        with pytest.raises(EvaluationError, match=words):
            evaluate_3dpw(_config(mine, tmp_path, regressor=tmp_path / f"{name}.npy"))
    (tmp_path / "text.npy").write_text("not numpy")
    for path in (tmp_path / "text.npy", tmp_path / "absent.npy"):
        with pytest.raises(EvaluationError, match="cannot be read"):
            evaluate_3dpw(_config(mine, tmp_path, regressor=path))


def test_wrong_bodies_are_refused(mine, tmp_path) -> None:
    write_3dpw(mine, tmp_path, "neutral")
    folder = tmp_path / "smpl"
    folder.mkdir()
    config = _config(mine, tmp_path, body_folder=folder, truth="gendered")
    for source, target, words in (
        ("NEUTRAL", "NEUTRAL", "no female SMPL"),
        ("MALE", "FEMALE", "its name says female, its content says male"),
        ("FEMALE", "FEMALE", "no male SMPL"),
    ):
        content = (mine.folder / f"SMPL_{source}.npz").read_bytes()
        (folder / f"SMPL_{target}.npz").write_bytes(content)
        with pytest.raises(BodyFileError, match=words):
            evaluate_3dpw(config)
    with pytest.raises(Key2MeshError, match="not a folder"):
        evaluate_3dpw(_config(mine, tmp_path, body_folder=tmp_path / "absent"))


def test_one_file_under_two_names_is_refused(mine, tmp_path) -> None:
    write_3dpw(mine, tmp_path, "neutral")
    arrays = dict(np.load(mine.folder / "SMPL_MALE.npz"))
    arrays.pop("gender")  # official files do not state it
    folder = tmp_path / "smpl"
    folder.mkdir()
    for gender in ("MALE", "FEMALE"):
        np.savez(folder / f"SMPL_{gender}.npz", **arrays)
    (folder / "SMPL_NEUTRAL.npz").write_bytes((mine.folder / "SMPL_NEUTRAL.npz").read_bytes())
    with pytest.raises(BodyFileError, match="same body"):
        evaluate_3dpw(_config(mine, tmp_path, body_folder=folder, truth="gendered"))


def test_folders_that_are_not_3dpw_are_refused(mine, tmp_path) -> None:
    with pytest.raises(EvaluationError, match="sequenceFiles/test"):
        evaluate_3dpw(_config(mine, tmp_path))
    write_3dpw(mine, tmp_path, "neutral")
    with pytest.raises(EvaluationError, match="no sequence"):
        evaluate_3dpw(_config(mine, tmp_path, sequences=("uptown",)))
