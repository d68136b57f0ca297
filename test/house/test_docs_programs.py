# SPDX-License-Identifier: Apache-2.0
"""Every Python program in the docs runs."""

import re
import shutil
import subprocess
import sys

import pytest
from helpers_house import TREE

PROGRAMS = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in sorted((TREE / "docs").rglob("*.md"))
    for number, text in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("text", PROGRAMS)
def test_a_program_of_the_docs_runs(text, tmp_path):
    (tmp_path / "demo").symlink_to(TREE / "demo")
    shutil.copytree(TREE / "demo" / "data" / "street", tmp_path / "my_bag")
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
