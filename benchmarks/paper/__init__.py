# SPDX-License-Identifier: Apache-2.0
"""The tables and figures of the Key2Mesh paper, on the licensed data and on open stand-ins."""
