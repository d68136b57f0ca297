# SPDX-License-Identifier: Apache-2.0
"""What a published benchmark measures, and the published rows. Imports no torch.

The paper is Uguz et al., "MoCap-to-Visual Domain Adaptation for Efficient Human Mesh Estimation
from 2D Keypoints", CVPR Workshops 2024, arXiv:2404.07094; its code is github.com/swampxx/Key2Mesh.
Where the text is silent, the code decides. Tables 1 and 2 are as the authors show them on their
project page, key2mesh.github.io; the other rows are second-hand (`NOT_CHECKED`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Truth = Literal["neutral", "gendered", "joints"]
Centre = Literal["hips", "pelvis"]
JointSet = Literal["h36m_14", "smpl_24"]
VertexCentre = Literal["joints", "origin"]

PAPER = "arXiv:2404.07094"
TABLE_1, TABLE_2 = f"{PAPER}, Table 1", f"{PAPER}, Table 2"
NOT_CHECKED = f"{PAPER}, not checked against its text"
_JOINT_SETS = {
    "h36m_14": "14 joints regressed from the vertices with Human3.6M's regressor",
    "smpl_24": "SMPL's 24 joints",
}
_TRUTHS = {
    "neutral": "the neutral SMPL with the data set's pose and shape, whatever the gender",
    "gendered": "the SMPL of the person's gender",
    "joints": "the data set's own 3D joints",
}
_CENTRES = {"hips": "the midpoint of the hips", "pelvis": "the pelvis"}


@dataclass(frozen=True)
class PublishedRow:
    """A published result [mm]; None where nothing is published. `source` says where."""

    method: str
    pa_mpjpe_mm: float
    mpjpe_mm: float | None
    pve_mm: float | None
    source: str

    @property
    def errors_mm(self) -> tuple[float | None, ...]:
        """PA-MPJPE, MPJPE and PVE."""
        return self.pa_mpjpe_mm, self.mpjpe_mm, self.pve_mm


@dataclass(frozen=True)
class Protocol:
    """What is measured.

    Attributes:
        benchmark: "3dpw", "h36m" or "emdb".
        part: the part of the data set.
        joints: which joints are compared.
        truth: the body that gives the true joints and vertices.
        centre: the point of both bodies that MPJPE puts in one place.
        vertices: what PVE puts in one place: that point ("joints"), or the origin of SMPL with zero
            translation ("origin"), as the authors' code does.
        minimum_keypoints: images with fewer seen keypoints do not count.
        frames: which images count, in words.
        sequences: number of sequences of the release; fewer are reported.
        published: rows to print beside the results, if nothing else is measured.
    """

    benchmark: str
    part: str
    joints: JointSet
    truth: Truth
    centre: Centre
    vertices: VertexCentre
    frames: str
    sequences: int
    minimum_keypoints: int = 6
    published: tuple[PublishedRow, ...] = ()

    def __str__(self) -> str:
        """The protocol in words."""
        vertices = "the same point" if self.vertices == "joints" else "SMPL's origin"
        parts = [
            f"{self.benchmark}, {self.part}",
            f"joints: {_JOINT_SETS[self.joints]}",
            f"truth: {_TRUTHS[self.truth]}",
            f"PA-MPJPE: after the best similarity (no reflection); MPJPE: {_CENTRES[self.centre]} "
            "in one place",
            f"images: {self.frames}, at least {self.minimum_keypoints} keypoints",
        ]
        if self.truth != "joints":
            parts.insert(4, f"PVE: all 6,890 vertices, {vertices} in one place")
        return "; ".join(parts)


_3DPW_TEST = (
    PublishedRow("SMPLify", 106.1, None, None, TABLE_2),
    PublishedRow("PoseNet3D (temporal)", 73.6, None, None, TABLE_2),
    PublishedRow("STRAPS V3 (with edges)", 59.2, None, None, TABLE_2),
    PublishedRow("CRA (with dense correspondences)", 55.9, 89.1, 115.3, TABLE_2),
    PublishedRow("LGD", 54.2, 91.3, 104.8, TABLE_2),
    PublishedRow("NeuralFitter", 52.2, None, None, TABLE_2),
    PublishedRow("Key2Mesh, adapted to InstaVariety", 50.1, 89.0, 101.7, TABLE_2),
    PublishedRow("Key2Mesh, adapted to the test split", 49.8, 86.7, 99.5, TABLE_2),
)
_3DPW_VALIDATION = (
    PublishedRow("Key2Mesh, pre-trained", 57.5, 93.6, 109.8, NOT_CHECKED),
    PublishedRow("Key2Mesh, adapted", 56.4, 88.6, 104.4, NOT_CHECKED),
)
_H36M = (
    PublishedRow("SMPLify", 82.3, None, None, TABLE_1),
    PublishedRow("HMR (unpaired, from images)", 66.5, None, None, TABLE_1),
    PublishedRow("SPIN (unpaired, from images)", 62.0, None, None, TABLE_1),
    PublishedRow("STRAPS (with silhouettes)", 55.4, None, None, TABLE_1),
    PublishedRow("LGD", 55.0, 102.4, None, TABLE_1),
    PublishedRow("CRA (with dense correspondences)", 53.9, 81.0, None, TABLE_1),
    PublishedRow("Key2Mesh, pre-trained", 53.9, 114.7, None, NOT_CHECKED),
    PublishedRow("+ re-projection", 53.8, 109.0, None, NOT_CHECKED),
    PublishedRow("+ critic", 52.2, 109.0, None, NOT_CHECKED),
    PublishedRow("Key2Mesh, adapted to the training subjects", 51.4, 108.1, None, TABLE_1),
    PublishedRow("Key2Mesh, adapted to the test subjects", 51.0, 107.1, None, TABLE_1),
)


def threedpw(split: str, truth: Truth, centre: Centre, sequences: int) -> Protocol:
    """3DPW; rows of the paper belong to its own choices, the neutral truth and the hips."""
    rows = {"test": _3DPW_TEST, "validation": _3DPW_VALIDATION}.get(split, ())
    as_published = (truth, centre) == ("neutral", "hips")
    return Protocol(
        "3dpw",
        split,
        joints="h36m_14",
        truth=truth,
        centre=centre,
        vertices="origin" if as_published else "joints",
        frames="those with a valid camera pose",
        sequences=sequences,
        published=rows if as_published else (),
    )


def human36m(centre: Centre) -> Protocol:
    """Human3.6M, Protocol 2, frontal camera."""
    return Protocol(
        "h36m",
        "Protocol 2: S9 and S11, camera 3 (60457274)",
        joints="h36m_14",
        truth="joints",
        centre=centre,
        vertices="joints",
        frames="every fifth",
        sequences=60,
        published=_H36M if centre == "hips" else (),
    )


def emdb(exact: bool, sequences: int) -> Protocol:
    """EMDB 1 as in its authors' evaluation (github.com/eth-ait/emdb); the paper has no row for it.

    Args:
        exact: the keypoints are exact projections, not detections.
        sequences: of the release.
    """
    keypoints = "exact projections of the truth, so a bound" if exact else "detections"
    return Protocol(
        "emdb",
        f"EMDB 1, keypoints: {keypoints}",
        joints="smpl_24",
        truth="gendered",
        centre="hips",
        vertices="joints",
        frames="good frames",
        sequences=sequences,
    )
