# SPDX-License-Identifier: Apache-2.0
"""docs/node.md lists what the node has: every parameter with its default, every cause."""

import re
from dataclasses import fields
from pathlib import Path

import yaml

from key2mesh_ros.causes import CAUSES
from key2mesh_ros.parameters import Parameters

PAGE = (Path(__file__).parents[2] / "docs" / "node.md").read_text()
CHANGE = {
    "any time": "any time",
    "while unconfigured": "only while the node is unconfigured",
    "at start": "only at start",
}


def rows(section):
    """The cells of each row of the first table of a section."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    table = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_table_of_parameters_is_the_nodes():
    listed = {}
    for names, default, change, _ in rows("Parameters"):
        for name in re.findall(r"`(\w+)`", names):
            listed[name] = (yaml.safe_load(default.strip("`")), CHANGE[change])

    def plain(value):
        return list(value) if isinstance(value, tuple) else value

    assert listed == {
        each.name: (plain(each.default), each.metadata["change"]) for each in fields(Parameters)
    }


def test_every_cause_has_a_row():
    answers = " ".join(" ".join(row) for row in rows("What bad input gets"))
    causes = {f"{cause.kind}.{name}" for name, cause in CAUSES.items()}
    pattern = r"`((?:refused|left_out|warning)\.[a-z_]+)`"
    assert set(re.findall(pattern, PAGE)) == causes
    assert causes - set(re.findall(pattern, answers)) <= {
        "left_out.low_quality",
        "warning.unanchored",
    }
