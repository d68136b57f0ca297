# SPDX-License-Identifier: Apache-2.0
"""How fast is it, and against what: `python -m benchmarks` (`make bench`)."""
