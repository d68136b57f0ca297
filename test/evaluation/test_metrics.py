# SPDX-License-Identifier: Apache-2.0
"""Laws of the error measures, and one oracle (SciPy) for the alignment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from key2mesh_core.errors import EvaluationError
from key2mesh_core.evaluation import metrics

SEEDS = st.integers(0, 2**32 - 1)
STEP = np.array([0.003, 0.0, 0.004])  # 5 mm long


def points(seed: int, samples: int = 5, joints: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, joints, 3))


def similarity_of(seed: int, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return (
        generator.uniform(0.1, 10.0, (samples, 1, 1)),
        Rotation.random(samples, rng=generator).as_matrix(),
        generator.normal(scale=5.0, size=(samples, 1, 3)),
    )


def transformed(truth: np.ndarray, seed: int) -> np.ndarray:
    scale, rotation, shift = similarity_of(seed, len(truth))
    return scale * truth @ np.swapaxes(rotation, 1, 2) + shift


@given(SEEDS)
def test_pa_mpjpe_does_not_see_a_similarity(seed: int) -> None:
    truth = points(seed)
    assert metrics.mpjpe(transformed(truth, seed), truth).min() > 10.0
    np.testing.assert_allclose(metrics.pa_mpjpe(transformed(truth, seed), truth), 0.0, atol=1e-6)

    predicted = truth + 0.1 * points(seed + 1)
    plain = metrics.pa_mpjpe(predicted, truth)
    np.testing.assert_allclose(metrics.pa_mpjpe(transformed(predicted, seed), truth), plain)
    assert plain.min() > 1.0


def test_a_reflection_keeps_its_error() -> None:
    truth = points(0)
    mirrored = truth * np.array([-1.0, 1.0, 1.0])
    assert metrics.pa_mpjpe(mirrored, truth).min() > 100.0
    assert metrics.pa_mpjpe(transformed(mirrored, 1), truth).min() > 100.0


def test_a_flat_pose_may_be_turned_over_but_not_mirrored_in_space() -> None:
    """Mirroring a flat set is also a rotation by half a turn, so its error must vanish."""
    flat = points(3) * np.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(
        metrics.pa_mpjpe(flat * np.array([-1.0, 1.0, 1.0]), flat), 0.0, atol=1e-6
    )


@pytest.mark.parametrize("handedness", [1.0, -1.0])
def test_alignment_is_the_best_one_by_numeric_search(handedness: float) -> None:
    """Also of a mirrored pose, where the best rotation is not that of the plain SVD."""
    truth = points(7, samples=1)
    weights = np.random.default_rng(8).uniform(0.1, 1.0, (1, 12))
    mirrored = truth * np.array([handedness, 1.0, 1.0])
    predicted = transformed(mirrored, 9) + points(10, samples=1)

    def cost(aligned: np.ndarray) -> float:
        return float((weights[..., None] * (aligned - truth) ** 2).sum())

    def cost_of(parameters: np.ndarray) -> float:
        rotation = Rotation.from_rotvec(parameters[:3]).as_matrix()
        return cost(np.exp(parameters[3]) * predicted @ rotation.T + parameters[4:])

    generator = np.random.default_rng(11)
    searched = min(
        minimize(cost_of, generator.normal(size=7), method="BFGS").fun for _ in range(10)
    )
    found = cost(metrics.similarity_align(predicted, truth, weights))
    assert found == pytest.approx(searched, rel=1e-5)


def test_weights_pick_points_and_hide_whatever_the_others_hold() -> None:
    truth = points(1)
    predicted = truth + 0.1 * points(2)
    valid = np.ones((5, 12))
    valid[:, [2, 7]] = 0.0
    kept = [j for j in range(12) if j not in (2, 7)]
    hidden = truth.copy()
    hidden[:, [2, 7]] = np.nan
    for measure in (metrics.mpjpe, metrics.pa_mpjpe):
        np.testing.assert_allclose(
            measure(predicted, hidden, valid), measure(predicted[:, kept], truth[:, kept])
        )


def test_integer_weights_are_repeated_points() -> None:
    truth = points(1)
    predicted = truth + 0.1 * points(2)
    weights = np.random.default_rng(3).integers(1, 4, 12)
    for measure in (metrics.mpjpe, metrics.pa_mpjpe):
        np.testing.assert_allclose(
            measure(predicted, truth, np.tile(weights, (5, 1))),
            measure(predicted.repeat(weights, axis=1), truth.repeat(weights, axis=1)),
        )


@given(SEEDS)
def test_mpjpe_is_a_metric(seed: int) -> None:
    a, b, c = points(seed), points(seed + 1), points(seed + 2)
    assert np.all(metrics.mpjpe(a, a) == 0.0)
    assert np.all(metrics.mpjpe(a, b) > 0.0)
    np.testing.assert_allclose(metrics.mpjpe(a, b), metrics.mpjpe(b, a))
    assert np.all(metrics.mpjpe(a, c) <= metrics.mpjpe(a, b) + metrics.mpjpe(b, c) + 1e-9)


def test_errors_are_millimetres() -> None:
    truth = points(1)
    np.testing.assert_allclose(metrics.mpjpe(truth + STEP, truth), 5.0)


def test_too_few_points_cannot_be_measured() -> None:
    truth, predicted = points(1), points(2)
    valid = np.zeros((5, 12), dtype=bool)
    valid[0, :2] = valid[1, :3] = valid[2, :] = True
    pa = metrics.pa_mpjpe(predicted, truth, valid)
    assert np.isnan(pa).tolist() == [True, False, False, True, True]
    assert np.isnan(metrics.mpjpe(predicted, truth, valid)).tolist() == [False] * 3 + [True] * 2
    assert metrics.mean_of_measured(pa) == pytest.approx(pa[1:3].mean())
    assert np.isnan(metrics.mean_of_measured([np.nan]))
    assert metrics.pa_mpjpe(np.zeros((0, 12, 3)), np.zeros((0, 12, 3))).shape == (0,)


@pytest.mark.parametrize("centre", [0.0, 1.0, -1234.5])
def test_a_collapsed_prediction_scores_the_spread_of_the_truth(centre: float) -> None:
    truth = points(1)
    spread = metrics.mpjpe(np.broadcast_to(truth.mean(axis=1, keepdims=True), truth.shape), truth)
    np.testing.assert_allclose(metrics.pa_mpjpe(np.full_like(truth, centre), truth), spread)


def test_a_tiny_prediction_is_scaled_up_and_a_collapsed_truth_scales_down() -> None:
    truth = points(1)
    np.testing.assert_allclose(metrics.pa_mpjpe(1e-6 * truth, truth), 0.0, atol=1e-6)
    np.testing.assert_allclose(metrics.pa_mpjpe(truth, np.full_like(truth, 2.0)), 0.0, atol=1e-6)


def test_points_on_a_line_are_aligned() -> None:
    line = np.linspace(0.0, 1.0, 12)[None, :, None] * np.array([0.3, -1.0, 2.0])
    np.testing.assert_allclose(metrics.pa_mpjpe(transformed(line, 4), line), 0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("predicted", "truth", "weights", "words"),
    [
        (np.zeros((2, 12, 3)), np.zeros((2, 11, 3)), None, r"\(2, 11, 3\)"),
        (np.zeros((12, 3)), np.zeros((12, 3)), None, r"\(12, 3\)"),
        (np.zeros((2, 12, 3)), np.zeros((2, 12, 3)), np.ones(12), r"\(12,\)"),
        (np.zeros((2, 12, 3)), np.zeros((2, 12, 3)), -np.ones((2, 12)), "-1.0"),
        (np.zeros((2, 12, 3)), np.zeros((2, 12, 3)), np.full((2, 12), np.nan), "nan"),
        (np.full((2, 12, 3), np.nan), np.zeros((2, 12, 3)), None, r"predicted\[0, 0\]"),
        (np.zeros((2, 12, 3)), np.full((2, 12, 3), np.inf), None, r"truth\[0, 0\]"),
    ],
)
@pytest.mark.parametrize("measure", [metrics.mpjpe, metrics.pa_mpjpe])
def test_mistakes_are_named(
    measure: Callable[..., np.ndarray],
    predicted: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray | None,
    words: str,
) -> None:
    with pytest.raises(EvaluationError, match=words):
        measure(predicted, truth, weights)
