# SPDX-License-Identifier: Apache-2.0
"""Conversion between bodies, with a body whose true correspondence is known as oracle."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from key2mesh_core.body.data import PARENTS, BodyData
from key2mesh_core.body.files import default_body, save_body
from key2mesh_core.body.skinning import rest_pelvis, skin
from key2mesh_core.body.surfaces import closest_on_triangles
from key2mesh_core.body.transfer import sample_residual, transfer_between
from key2mesh_core.cli.body_transfer import BodyTransferConfig, transfer_bodies
from key2mesh_core.errors import BodyFileError

_TURNED = {16: (2, -12), 17: (2, 12), 18: (2, -5), 19: (2, 5), 1: (2, 5), 2: (2, -5), 12: (0, 8)}


def other_body(seed: int = 0) -> tuple[BodyData, np.ndarray]:
    """The default body with another rest pose, other shape components and mean, and permuted
    vertices; (the body, the default body's vertex for each of its vertices)."""
    body, rng = default_body(), np.random.default_rng(seed)
    rest = np.tile(np.eye(3, dtype=np.float32), (1, 24, 1, 1))
    for joint, (axis, degrees) in _TURNED.items():
        rest[0, joint] = Rotation.from_rotvec(np.radians(degrees) * np.eye(3)[axis]).as_matrix()
    betas = np.concatenate([np.zeros((1, 10)), np.eye(10)])
    posed, _ = skin(body, betas, np.repeat(rest, 11, 0))
    posed += rest_pelvis(body, betas)[:, None].astype(np.float32)
    mixed = np.moveaxis(posed[1:] - posed[0], 0, 2) @ (np.eye(10) + 0.3 * rng.normal(size=(10, 10)))
    template = posed[0] + mixed @ (0.5 * rng.normal(size=10))
    order = rng.permutation(len(template))
    made = BodyData(
        name="other",
        gender="neutral",
        template=template[order],
        shape_directions=mixed[order],
        pose_directions=None,
        joint_regressor=body.joint_regressor[:, order],
        skinning_weights=body.skinning_weights[order],
        parents=PARENTS,
        triangles=np.argsort(order)[body.triangles],
        face_regressor=body.face_regressor[:, order],
    )
    return made, order


@pytest.fixture(scope="module")
def pair():
    """(source, target, transfer, the source's vertex for each of the target's)."""
    target, order = other_body()
    return default_body(), target, transfer_between(default_body(), target), order


def people(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Betas, rotations and pelvis positions."""
    rng = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(0.35 * rng.normal(size=(count * 24, 3)))
    rotations = turns.as_matrix().reshape(count, 24, 3, 3)
    return rng.normal(size=(count, 10)), rotations, rng.normal(size=(count, 3))


def test_another_rest_pose_shape_basis_and_vertex_order_cost_a_centimetre(pair) -> None:
    source, target, transfer, order = pair
    betas, rotations, place = people(40, 1)
    shapes, turned, moved = transfer.convert(betas, rotations, place)
    ours = skin(source, betas, rotations)[0] + place[:, None]
    theirs = skin(target, shapes, turned)[0] + moved[:, None]
    error = np.linalg.norm(theirs - ours[:, order], axis=2).mean()
    assert error < 0.012
    # Unconverted, the same numbers make another body.
    raw = skin(target, betas, rotations)[0] + place[:, None]
    assert np.linalg.norm(raw - ours[:, order], axis=2).mean() > 0.05
    # The stated residual needs no known correspondence, and says about the same.
    assert transfer.residual(ours, theirs).mean() == pytest.approx(error, abs=0.003)
    assert sample_residual(transfer, source, target) == pytest.approx(error, abs=0.004)
    np.testing.assert_allclose(
        turned @ turned.swapaxes(2, 3), np.eye(3)[None, None] + 0 * turned, atol=1e-5
    )


def test_a_turned_and_moved_person_stays_turned_and_moved(pair) -> None:
    _, target, transfer, _ = pair
    betas, rotations, place = people(8, 2)
    turn = Rotation.from_rotvec([0.3, 1.0, -2.0]).as_matrix()
    again = rotations.copy()
    again[:, 0] = turn @ rotations[:, 0]
    first = transfer.convert(betas, rotations, place)
    second = transfer.convert(betas, again, place @ turn.T + [1, 2, 3])
    one = skin(target, *first[:2])[0] + first[2][:, None]
    two = skin(target, *second[:2])[0] + second[2][:, None]
    np.testing.assert_allclose(two, one @ turn.T + [1, 2, 3], atol=1e-4)


def test_a_body_is_converted_to_itself_almost_exactly() -> None:
    body = default_body()
    assert 1000 * sample_residual(transfer_between(body, body), body, body) < 1.0


def test_the_closest_point_of_a_triangle_is_closer_than_any_other() -> None:
    rng = np.random.default_rng(0)
    corners, points = rng.normal(size=(200, 3, 3)), rng.normal(size=(200, 3))
    found = closest_on_triangles(points, corners)
    assert (found >= -1e-9).all()
    np.testing.assert_allclose(found.sum(1), 1)
    best = np.linalg.norm(np.einsum("pk,pkd->pd", found, corners) - points, axis=1)
    others = rng.dirichlet([0.7] * 3, size=2000)
    distances = np.linalg.norm(others @ corners - points[:, None], axis=2).min(1)
    assert (best <= distances + 1e-9).all()
    assert (distances - best).max() < 0.3


def test_the_command_writes_what_smplx_takes(pair, tmp_path, capsys) -> None:
    source, target, _, order = pair
    save_body(tmp_path / "other.npz", target)
    betas, rotations, place = people(5, 3)
    poses = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_rotvec().reshape(5, 72)
    rows = {"betas": betas, "poses": poses, "translation": place, "frame": np.arange(5)}
    np.savez(tmp_path / "people.npz", **rows, body_model=np.array(source.identifier))
    config = BodyTransferConfig(
        tmp_path / "people.npz", tmp_path / "out.npz", str(tmp_path / "other.npz")
    )
    transfer_bodies(config)
    with np.load(tmp_path / "out.npz") as stored:
        found = {name: stored[name] for name in stored.files}
    turned = Rotation.from_rotvec(found["poses"].reshape(-1, 3)).as_matrix().reshape(5, 24, 3, 3)
    pelvis = found["trans"] + rest_pelvis(target, found["betas"])
    theirs = skin(target, found["betas"], turned)[0] + pelvis[:, None]
    ours = skin(source, betas, rotations)[0] + place[:, None]
    assert np.linalg.norm(theirs - ours[:, order], axis=2).mean() < 0.012
    assert found["frame"].tolist() == [0, 1, 2, 3, 4]
    assert f"{1000 * found['residual'].mean():.1f} mm on average" in capsys.readouterr().out


def test_files_of_other_bodies_are_refused(tmp_path) -> None:
    target, _ = other_body()
    save_body(tmp_path / "other.npz", target)
    config = BodyTransferConfig(
        tmp_path / "people.npz", tmp_path / "out.npz", str(tmp_path / "other.npz")
    )
    with pytest.raises(BodyFileError, match="cannot be read"):
        transfer_bodies(config)
    np.savez(tmp_path / "people.npz", betas=np.zeros((1, 10)))
    with pytest.raises(BodyFileError, match="lacks"):
        transfer_bodies(config)
    rows = {"betas": np.zeros((1, 10)), "poses": np.zeros((1, 72)), "translation": np.zeros((1, 3))}
    np.savez(tmp_path / "people.npz", **rows, body_model=np.array("another@0"))
    with pytest.raises(BodyFileError, match="has bodies of another@0"):
        transfer_bodies(config)
