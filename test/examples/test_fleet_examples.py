# SPDX-License-Identifier: Apache-2.0
"""The job files in examples/fleet do every shard of the work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_bundle import make_bundle
from helpers_fleet import walking, write_recording
from helpers_house import TREE
from ruamel.yaml import YAML

FOLDER = TREE / "examples" / "fleet"
NAMES = ("a", "b", "c")


@pytest.fixture
def work(tmp_path) -> tuple[str, str, dict[str, str]]:
    """Manifest, output, and an environment in which `key2mesh` is this tree's."""
    for name in NAMES:
        write_recording(tmp_path / "bags" / name, "mcap", walking(6))
    make_bundle(tmp_path / "small")
    lines = [f'{{"source": "{tmp_path}/bags/{n}", "model": "{tmp_path}/small"}}' for n in NAMES]
    (tmp_path / "bags.txt").write_text("\n".join(lines))
    tools = tmp_path / "bin"
    tools.mkdir()
    script = f'#!/bin/sh\nexec {sys.executable} -m key2mesh_core "$@"\n'
    # Stands for GNU parallel: one command per line of its input, `{}` replaced by the line.
    parallel = (
        '#!/bin/bash\n[ "$1" = --jobs ] && [ "$3" = --line-buffer ] || exit 9\nshift 3\n'
        'while read -r n; do "${@//\\{\\}/$n}" || exit; done\n'
    )
    for name, text in (("key2mesh", script), ("parallel", parallel)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "JOBS": "2"}
    return str(tmp_path / "bags.txt"), str(tmp_path / "out"), environment


def made(output: str) -> list[str]:
    return sorted(path.stem for path in Path(output).glob("*.npz"))


@pytest.mark.long
def test_a_slurm_array_does_every_shard(work):
    manifest, output, environment = work
    array = {"SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}
    for task in ("5", "6"):
        program = ["bash", str(FOLDER / "slurm.sh"), manifest, output]
        subprocess.run(program, env=environment | array | {"SLURM_ARRAY_TASK_ID": task}, check=True)
    assert made(output) == list(NAMES)


@pytest.mark.long
def test_gnu_parallel_does_every_shard(work):
    manifest, output, environment = work
    subprocess.run(
        ["bash", str(FOLDER / "gnu_parallel.sh"), manifest, output], env=environment, check=True
    )
    assert made(output) == list(NAMES)


@pytest.mark.long
def test_a_kubernetes_job_does_every_shard(work, tmp_path):
    manifest, output, environment = work
    job = YAML(typ="safe").load((FOLDER / "kubernetes.yaml").read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert job["completions"] == 100
    (text,) = container["args"]
    for old, new in (
        ("s3://my-bucket/bags.txt", manifest),
        ("s3://my-bucket/meshes", output),
        ("/100", "/2"),
        ("/scratch", str(tmp_path / "scratch")),
    ):
        assert old in text
        text = text.replace(old, new)
    for index in ("0", "1"):
        subprocess.run(
            [*container["command"], text],
            env=environment | {"JOB_COMPLETION_INDEX": index},
            check=True,
        )
    assert made(output) == list(NAMES)
