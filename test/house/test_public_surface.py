# SPDX-License-Identifier: Apache-2.0
"""`from key2mesh_core import ...`: every public name is there, and costs only what it needs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import key2mesh_core

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", key2mesh_core.__all__)
def test_every_public_name_is_there(name):
    assert getattr(key2mesh_core, name) is not None
    assert name in dir(key2mesh_core)


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "key2mesh_core" / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name for node in block.body for alias in node.names}
    assert seen | {"__version__"} == set(key2mesh_core.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Estimater"):
        _ = key2mesh_core.Estimater


def test_public_names_load_no_torch_and_no_engine_before_it_is_used():
    """One fresh interpreter; onnxruntime comes with the name that runs it, and not earlier."""
    program = f"""
import sys
import key2mesh_core
assert not {{"numpy", "torch", "onnxruntime", "scipy"}} & set(sys.modules)
for name in {[name for name in key2mesh_core.__all__ if name != "Estimator"]}:
    getattr(key2mesh_core, name)
    assert not {{"torch", "onnxruntime", "onnx", "tyro"}} & set(sys.modules), name
key2mesh_core.Estimator
assert not {{"torch", "onnx", "tyro", "safetensors"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
