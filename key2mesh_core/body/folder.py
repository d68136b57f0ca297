# SPDX-License-Identifier: Apache-2.0
"""Finds the neutral, female and male SMPL in a folder of the user's downloads.

Names as in the official releases and as other projects rename them: SMPL_NEUTRAL.pkl,
SMPL_MALE.npz, basicModel_f_lbs_10_207_0_v1.0.0.pkl, basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from key2mesh_core.body.data import BodyData
from key2mesh_core.body.files import SMPL_VERTEX_COUNT, load_body
from key2mesh_core.errors import BodyFileError

_NAMES = {
    "neutral": re.compile(r"^(smpl|basicmodel)_(neutral|n)([_.]|$)", re.IGNORECASE),
    "female": re.compile(r"^(smpl|basicmodel)_(female|f)([_.]|$)", re.IGNORECASE),
    "male": re.compile(r"^(smpl|basicmodel)_(male|m)([_.]|$)", re.IGNORECASE),
}


def load_smpl(folder: str | Path, gender: str) -> BodyData:
    """The SMPL of one gender.

    Raises:
        BodyFileError: there is no such file, or several that differ; the content states another
            gender or is not SMPL's mesh; or the file holds the same body as that of another gender.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BodyFileError(f"{folder} is not a folder; give the folder with your SMPL files")
    body, file = _only(folder, gender)
    if body.gender != gender:
        raise BodyFileError(f"{file}: its name says {gender}, its content says {body.gender}")
    if len(body.template) != SMPL_VERTEX_COUNT:
        raise BodyFileError(
            f"{file}: {len(body.template)} vertices; SMPL has {SMPL_VERTEX_COUNT}. The benchmarks "
            "need SMPL itself"
        )
    for other in _NAMES.keys() - {gender}:
        for path in _files(folder, other):
            if _same(_load(path, path.stat().st_mtime_ns), body):
                raise BodyFileError(
                    f"{file} and {path} hold the same body, so one is not {gender} or {other}: "
                    "copy the files again from the download"
                )
    return body


def _only(folder: Path, gender: str) -> tuple[BodyData, Path]:
    files = _files(folder, gender)
    if not files:
        raise BodyFileError(
            f"{folder} has no {gender} SMPL: name it SMPL_{gender.upper()}.pkl (or .npz); it has "
            f"{sorted(path.name for path in folder.iterdir())[:10]}"
        )
    bodies = [_load(file, file.stat().st_mtime_ns) for file in files]
    if not all(_same(body, bodies[0]) for body in bodies[1:]):
        names = [path.name for path in files]
        raise BodyFileError(f"{folder} has several {gender} bodies, {names}: keep one")
    return bodies[0], files[0]


def _files(folder: Path, gender: str) -> list[Path]:
    files = [path for path in folder.iterdir() if path.suffix in (".pkl", ".npz")]
    return sorted(path for path in files if _NAMES[gender].match(path.name))


@lru_cache(maxsize=8)
def _load(path: Path, changed: int) -> BodyData:
    """A body file, read once as long as it does not change: official files take seconds."""
    return load_body(path)


def _same(body: BodyData, other: BodyData) -> bool:
    """Whether two files hold the same shapes, whatever they are called."""
    pairs = (
        (getattr(body, name), getattr(other, name)) for name in ("template", "shape_directions")
    )
    return all(np.array_equal(a, b) for a, b in pairs)
