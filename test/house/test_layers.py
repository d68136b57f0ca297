# SPDX-License-Identifier: Apache-2.0
"""Packages import only those below them, and run-time code loads nothing heavy."""

import subprocess
import sys

from helpers_house import TREE


def test_imports_keep_the_contracts_of_pyproject_toml():
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command;"
         "sys.exit(lint_imports_command())", "--no-cache"],
        cwd=TREE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_fresh_interpreter_loads_no_torch():
    program = """
import importlib, sys
for module in ("body.files", "model.bundle", "recordings.bags", "view.render", "cli.main",
               "model.estimator"):
    importlib.import_module(f"key2mesh_core.{module}")
    heavy = {"torch", "onnx", "scipy", "rclpy"} & set(sys.modules)
    assert not heavy, f"{module} loads {sorted(heavy)}"
"""
    subprocess.run([sys.executable, "-c", program], cwd=TREE, check=True)
