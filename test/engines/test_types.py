# SPDX-License-Identifier: Apache-2.0
"""Every call to TensorRT and cuda-core has names and arguments that exist in their real types."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SITE = Path(importlib.util.find_spec("numpy").origin).parents[1]
ENGINES = Path(__file__).parents[2] / "key2mesh_core" / "model" / "engines"
CHECKED = ("cuda", "tensorrt", "tensorrt_build")

# Five lines of tensorrt-stubs 10.13 are no Python: a parameter named `in`, a default in the middle.
REPAIRS = {
    ", in: list": ", in_: list",
    "power: Weights = None, channel_axis: int)": "power: Weights = None, channel_axis: int = 0)",
}
WRONG = """
import tensorrt as trt
from cuda.core import Buffer, Device

def misuse(context: trt.IExecutionContext, device: Device, buffer: Buffer) -> None:
    context.execute_async_v4(1)
    context.set_device_memory(1)
    device.alocate(1)
    buffer.copy_to(buffer)
"""


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """Runs mypy on files; returns its findings in them, stubs laid out as it finds them."""
    if importlib.util.find_spec("mypy") is None or not (SITE / "tensorrt_bindings").is_dir():
        pytest.skip("needs mypy and tensorrt-stubs: requirements/test.txt")
    folder = tmp_path_factory.mktemp("types")
    stubs = folder / "stubs"
    shutil.copytree(SITE / "tensorrt", stubs / "tensorrt")
    shutil.copytree(SITE / "tensorrt_bindings", stubs / "tensorrt_bindings")
    for path in (stubs / "tensorrt_bindings").glob("*.pyi"):
        text = path.read_text()
        for found, repaired in REPAIRS.items():
            text = text.replace(found, repaired)
        path.write_text(text)
    # cuda-core keeps its types in a folder for each version of CUDA.
    core = SITE / "cuda" / "core"
    only_types = shutil.ignore_patterns("*.so", "*.pxd", "__pycache__", "_include", "_cpp")
    shutil.copytree(core / "cu13", stubs / "cuda" / "core", ignore=only_types)
    shutil.copy(core / "__init__.py", stubs / "cuda" / "core" / "__init__.py")
    for path in (stubs / "cuda" / "core").rglob("__init__.py"):
        # Made of other lists when it is imported, which mypy does not do.
        path.write_text(re.sub(r"^__all__ = \[.*?\]$", "", path.read_text(), flags=re.M | re.S))

    def run(*paths: Path) -> list[str]:
        command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--check-untyped-defs"]
        # All that is not among the stubs, numpy above all, is of no interest here.
        command += ["--no-site-packages", "--ignore-missing-imports"]
        command += ["--no-error-summary", f"--cache-dir={folder / 'cache'}", *map(str, paths)]
        environment = os.environ | {"MYPYPATH": str(stubs)}
        found = subprocess.run(
            command, env=environment, capture_output=True, text=True, cwd=ENGINES.parents[2]
        )
        assert "prevented further checking" not in found.stdout, found.stdout
        assert not found.stderr
        names = {os.path.relpath(path, ENGINES.parents[2]) for path in paths} | set(map(str, paths))
        lines = found.stdout.splitlines()
        return [line for line in lines if line.split(":")[0] in names and ": error: " in line]

    return run


def test_every_call_fits_the_real_types(check, tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    found = check(*(ENGINES / f"{name}.py" for name in CHECKED), wrong)
    # In one run, as reading the types takes most of it; the wrong calls show that they are read.
    assert [line for line in found if not line.startswith(str(wrong))] == []
    told = "\n".join(found)
    for word in ("execute_async_v4", '"size"', "alocate", '"stream"'):
        assert word in told
    assert len(found) == 4
