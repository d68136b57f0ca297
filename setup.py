# SPDX-License-Identifier: Apache-2.0
"""Everything is in pyproject.toml except one step: the wheel contains the message files.

They live in msg/, where ROS wants them, and are copied into the package when it is built,
so that there is one of each (see key2mesh_core/recordings/bags.py, which reads them).
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithMessages(build_py):
    """Adds msg/*.msg to the built package as key2mesh_core/assets/msg."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # an editable installation sees the source tree itself
        target = Path(self.build_lib) / "key2mesh_core" / "assets" / "msg"
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted(Path(__file__).parent.glob("msg/*.msg")):
            self.copy_file(str(file), str(target / file.name))


setup(cmdclass={"build_py": BuildWithMessages})
