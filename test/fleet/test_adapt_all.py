# SPDX-License-Identifier: Apache-2.0
"""`key2mesh adapt-all`: a bundle for each robot, and who was left alone and why."""

from __future__ import annotations

import json
import re

import pytest
from helpers_adapt import save_model, write_aistpp
from helpers_fleet import lines

from key2mesh_core.cli.main import main
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.fleet import adapt_all
from key2mesh_core.fleet.adapt_all import adapt_jobs
from key2mesh_core.fleet.adapt_config import ADAPT_ALL_RECIPES, AdaptAllConfig
from key2mesh_core.learning.adapt.config import AdaptConfig
from key2mesh_core.learning.adapt.job import AdaptResult
from key2mesh_core.learning.adapt.validation import LABELLED, choose
from key2mesh_core.model.bundle import load_bundle

FAST = ("--members", "1", "--epochs", "1", "--least-steps", "1", "--batch-size", "16")
FAST += ("--critic-updates", "1", "--weights.agreement", "0")


@pytest.mark.long
@pytest.mark.parametrize("where", [(), ("--ray", "--workers", "2")], ids=["here", "ray"])
def test_every_robot_gets_a_bundle_or_a_reason(tmp_path, capsys, where):
    start, body = save_model(tmp_path)
    for robot, frames in (("one", 80), ("two", 80), ("short", 10)):
        (tmp_path / "robots" / robot).mkdir(parents=True)
        write_aistpp(tmp_path / "robots" / robot / "gBR_ch06.pkl", people=2, frames=frames)
    robots = [
        {"name": "one", "target": str(tmp_path / "robots" / "one"), "always_adapt": True},
        {"name": "two", "target": [str(tmp_path / "robots" / "two")], "seed": 3},
        {"name": "short", "target": [str(tmp_path / "robots" / "short")]},
    ]
    (tmp_path / "robots.jsonl").write_text("\n".join(map(json.dumps, robots)))
    words = ["adapt-all", "--robots", str(tmp_path / "robots.jsonl"), "--output"]
    words += [str(tmp_path / "out"), "--init", str(start), "--body", str(body), *FAST]
    assert main([*words, *where]) == 1
    told = capsys.readouterr()
    found = lines(told.out)
    assert (found["one"]["adapted"], found["one"]["epoch"]) == (True, 1)
    assert "always_adapt" in found["one"]["why"]
    assert found["two"]["adapted"] == (found["two"]["epoch"] > 0)
    assert "held-out" in found["two"]["why"]
    for name in ("one", "two"):
        bundle = load_bundle(tmp_path / "out" / name)
        assert bundle.card["adaptation"]["adapted"] == found[name]["adapted"]
    assert "detections" in found["short"]["error"]
    assert not (tmp_path / "out" / "short").exists()
    assert "short" in told.err
    assert main(words) == 1
    again = lines(capsys.readouterr().out)
    assert again["one"] == found["one"] | {"state": "skipped"}
    assert again["two"] == found["two"] | {"state": "skipped"}
    assert list((tmp_path / "out" / "_work").iterdir()) == []


@pytest.mark.parametrize(
    ("select_on", "criteria", "epoch", "said"),
    [
        ("", ("reprojection", "mirror_mm"), 0, "held-out detections .*only below -0.08 is kept"),
        ("3dpw-validation", (LABELLED,), 1, r"3dpw-validation .*below \+0.00 is kept"),
    ],
)
def test_the_reason_names_the_rule_that_decided(
    tmp_path, monkeypatch, select_on, criteria, epoch, said
):
    """A model that is 2 % better is kept only if labels say so."""
    history = [dict.fromkeys(criteria, 100.0), dict.fromkeys(criteria, 98.0)]
    assert choose(history) == epoch
    result = AdaptResult(tmp_path, epoch > 0, epoch, history)
    monkeypatch.setattr(adapt_all, "adapt", lambda options: result)
    facts = adapt_all.AdaptJob("r", ("b",), AdaptConfig(select_on=select_on)).make(["b"], tmp_path)
    assert facts["adapted"] == (epoch > 0)
    assert re.search(said, facts["why"])


def test_a_folder_with_a_folder_for_each_robot_is_a_list_of_robots(tmp_path):
    for robot in ("r1", "r2"):
        for take in ("a", "b"):
            (tmp_path / robot).mkdir(exist_ok=True)
            write_aistpp(tmp_path / robot / f"gBR_{take}.pkl", people=1, frames=5)
    jobs = adapt_jobs(AdaptAllConfig(robots=str(tmp_path)))
    assert [job.name for job in jobs] == ["r1", "r2"]
    assert [len(job.sources) for job in jobs] == [2, 2]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("my_bag", '"name" and a "target"'),
        ({"name": "a"}, '"target"'),
        ({"target": "b"}, '"name"'),
        ({"name": "a", "target": "b", "epoch": 3}, "unknown option epoch"),
        ({"name": "a", "target": "b", "output": "x"}, "unknown option output"),
        ({"name": "a", "target": "b", "epochs": 0}, "epochs"),
        ({"name": "a", "target": "b", "weights": {"reprojections": 1}}, "reprojections"),
        ({"name": "a/b", "target": "b"}, "a/b"),
    ],
)
def test_an_entry_with_a_mistake_is_refused(tmp_path, entry, message):
    (tmp_path / "robots.json").write_text(json.dumps([entry]))
    with pytest.raises(Key2MeshError, match=message):
        adapt_jobs(AdaptAllConfig(robots=str(tmp_path / "robots.json")))


def test_a_robot_may_have_options_within_the_weights(tmp_path):
    entry = {"name": "a", "target": "b", "weights": {"rehearsal": 1}, "init": "mine"}
    (tmp_path / "robots.json").write_text(json.dumps([entry]))
    (job,) = adapt_jobs(AdaptAllConfig(robots=str(tmp_path / "robots.json")))
    assert job.options.weights.rehearsal == 1.0
    assert job.options.weights.reprojection == AdaptAllConfig().weights.reprojection
    assert job.options.init == "mine"


def test_recipes_are_those_of_adapt():
    assert ADAPT_ALL_RECIPES["paper"][1].of_all().schedule == "exponential"
