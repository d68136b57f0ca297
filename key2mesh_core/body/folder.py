# SPDX-License-Identifier: Apache-2.0
"""Finds the neutral, female and male SMPL in a folder of the user's downloads.

Names as in the official releases and as other projects rename them: SMPL_NEUTRAL.pkl,
SMPL_MALE.npz, basicModel_f_lbs_10_207_0_v1.0.0.pkl, basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl.
"""

from __future__ import annotations

import re
from pathlib import Path

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
            if _content_hash(load_body(path)) == _content_hash(body):
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
    bodies = {_content_hash(body): (body, file) for file in files for body in (load_body(file),)}
    if len(bodies) > 1:
        names = [path.name for path in files]
        raise BodyFileError(f"{folder} has several {gender} bodies, {names}: keep one")
    return next(iter(bodies.values()))


def _files(folder: Path, gender: str) -> list[Path]:
    files = [path for path in folder.iterdir() if path.suffix in (".pkl", ".npz")]
    return sorted(path for path in files if _NAMES[gender].match(path.name))


def _content_hash(body: BodyData) -> bytes:
    return body.template.tobytes() + body.shape_directions.tobytes()
