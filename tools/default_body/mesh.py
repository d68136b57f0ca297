# SPDX-License-Identifier: Apache-2.0
"""Simplifies a mirror-symmetric closed mesh to a given number of triangles, keeping some vertices.

Edge collapses onto one of the edge's own ends (Garland and Heckbert, SIGGRAPH 1997, with that
restriction): the result's vertices are a subset of the input's, so that shape directions and
weights carry over by index. Only the left half is thinned and then mirrored; its border on the
mirror plane stays as it is.
"""

from __future__ import annotations

import heapq

import numpy as np

from default_body.symmetry import mirror_index

_LENGTH_WEIGHT = 2e-3
"""How much long edges cost beside bent surfaces: keeps flat limbs from losing their rings."""


def thin_symmetric_mesh(
    vertices: np.ndarray, triangles: np.ndarray, triangle_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the kept vertices (K,) and triangles (`triangle_count`, 3) among them.

    Args:
        vertices: (V, 3), symmetric in x to rounding. triangles: (F, 3), closed, symmetric.
    """
    left = vertices[triangles].mean(1)[:, 0] > 0
    half = _collapse(vertices, triangles[left], triangle_count // 2)
    mirror = mirror_index(vertices)
    both = np.concatenate([half, mirror[half][:, ::-1]])
    kept, flat = np.unique(both, return_inverse=True)
    result = flat.reshape(both.shape)
    _check_closed(result, len(kept))
    return kept, result


def _check_closed(triangles: np.ndarray, vertex_count: int) -> None:
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    if len(np.unique(edges, axis=0)) != len(edges):
        raise SystemExit("the thinned mesh has an edge twice in one direction")
    if {tuple(e) for e in edges} != {(b, a) for a, b in edges}:
        raise SystemExit("the thinned mesh is not closed")
    if vertex_count - len(edges) // 2 + len(triangles) != 2:
        raise SystemExit("the thinned mesh is not one closed surface without handles")


def _collapse(vertices: np.ndarray, triangles: np.ndarray, target: int) -> np.ndarray:
    """`triangles` thinned to `target`; each collapse inside the border removes two."""
    if (len(triangles) - target) % 2:
        raise SystemExit(f"{len(triangles)} triangles cannot become {target} two at a time")
    faces = {i: tuple(map(int, t)) for i, t in enumerate(triangles)}
    around: dict[int, set[int]] = {}
    for i, face in faces.items():
        for v in face:
            around.setdefault(v, set()).add(i)
    quadric = _quadrics(vertices, triangles)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    pairs, uses = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    border = set(pairs[uses == 1].ravel().tolist())

    def cost(gone: int, stays: int) -> float:
        point = np.append(vertices[stays], 1.0)
        length = vertices[gone] - vertices[stays]
        bend = point @ (quadric[gone] + quadric[stays]) @ point
        return float(bend + _LENGTH_WEIGHT * (length @ length) ** 2)

    version = dict.fromkeys(around, 0)
    heap: list[tuple[float, int, int, int, int]] = []

    def offer(a: int, b: int) -> None:
        for gone, stays in ((a, b), (b, a)):
            if gone not in border:
                entry = (cost(gone, stays), gone, stays, version[gone], version[stays])
                heapq.heappush(heap, entry)

    for a, b in pairs.tolist():
        offer(a, b)
    count = len(faces)
    while count > target:
        _, gone, stays, seen_gone, seen_stays = heapq.heappop(heap)
        if version.get(gone) != seen_gone or version.get(stays) != seen_stays:
            continue
        if not _allowed(vertices, faces, around, gone, stays):
            continue
        for i in around.pop(gone):
            if stays in faces[i]:
                for v in faces.pop(i):
                    if v != gone:
                        around[v].discard(i)
                count -= 1
            else:
                faces[i] = tuple(stays if v == gone else v for v in faces[i])
                around[stays].add(i)
        del version[gone]
        quadric[stays] = quadric[stays] + quadric[gone]
        version[stays] += 1
        for other in {v for i in around[stays] for v in faces[i]} - {stays}:
            offer(stays, other)
    return np.array([faces[i] for i in sorted(faces)])


def _allowed(
    vertices: np.ndarray, faces: dict, around: dict[int, set[int]], gone: int, stays: int
) -> bool:
    """Whether the surface stays a surface, no triangle flips and none becomes a sliver."""
    ring_gone = {v for i in around[gone] for v in faces[i]}
    ring_stays = {v for i in around[stays] for v in faces[i]}
    if stays not in ring_gone or len((ring_gone & ring_stays) - {gone, stays}) != 2:
        return False
    if len(around[stays]) + len(around[gone]) - 4 > 9:
        return False
    for i in around[gone]:
        if stays in faces[i]:
            continue
        before = vertices[list(faces[i])]
        after = vertices[[stays if v == gone else v for v in faces[i]]]
        normal_before = np.cross(before[1] - before[0], before[2] - before[0])
        normal_after = np.cross(after[1] - after[0], after[2] - after[0])
        area = np.linalg.norm(normal_after)
        if normal_before @ normal_after < 0.5 * area * np.linalg.norm(normal_before):
            return False
        longest = max(((after - np.roll(after, 1, axis=0)) ** 2).sum(1))
        if area < 0.15 * longest:
            return False
    return True


def _quadrics(vertices: np.ndarray, triangles: np.ndarray) -> dict[int, np.ndarray]:
    """Per vertex the (4, 4) sum of squared distances to its triangles' planes, by area."""
    corner = vertices[triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    area = np.linalg.norm(normal, axis=1, keepdims=True)
    normal /= area
    plane = np.concatenate([normal, -(normal * corner[:, 0]).sum(1, keepdims=True)], axis=1)
    per_face = area[:, :, None] * plane[:, :, None] * plane[:, None, :]
    total = np.zeros((len(vertices), 4, 4))
    np.add.at(total, triangles.ravel(), np.repeat(per_face, 3, axis=0))
    return dict(enumerate(total))
