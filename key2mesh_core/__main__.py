# SPDX-License-Identifier: Apache-2.0
"""`python -m key2mesh_core`: the `key2mesh` command."""

import sys

from key2mesh_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
