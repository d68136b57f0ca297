# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh`: what cannot be made is refused, and nothing is written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import tyro
from helpers_meshing import COUNT, FORMS, frames, recording
from write_bags import keypoint_recording, write_bag

from key2mesh_core.errors import BagError, Key2MeshError
from key2mesh_core.meshing.config import MeshConfig
from key2mesh_core.meshing.job import mesh

# What is refused.


def test_what_cannot_be_made_is_refused_before_anything_is_written(tmp_path, bundle, source):
    def refused(match: str, kind: type = Key2MeshError, **options) -> None:
        given = {"source": source, "target": tmp_path / "out", "model": bundle, **options}
        with pytest.raises(kind, match=match):
            mesh(MeshConfig(**given))
        assert {p.name for p in tmp_path.iterdir()} <= {"there", "two"}

    refused("there is no .*absent", source=tmp_path / "absent")
    refused(r"\.npz", form="npz")
    refused("--no-vertices", form="obj", vertices=False)
    refused(r"\.txt", target=tmp_path / "x.txt")
    refused("layout", layout="coco_17")
    refused("odd_msgs/msg/Odd", BagError, topic="/odd")
    refused("no CameraInfo on '/eye'.*/camera_info", BagError, camera_topic="/eye")
    refused("unknown backend 'abacus'", backend="abacus")
    refused(r"\['/people'\].*--meshes-topic", BagError, meshes_topic="/people")
    refused("is inside .*choose a place outside", target=source / "out")
    refused(r"cannot be made: .*Not a directory", target=Path(bundle) / "model.json" / "out.npz")
    (tmp_path / "there").mkdir()
    refused(str(tmp_path / "there"), target=tmp_path / "there")
    two = [keypoint_recording(t, frames(3)) for t in ("/a", "/b")]
    write_bag(tmp_path / "two", two)
    refused("keypoints on /a, /b.*topic=TOPIC", BagError, source=tmp_path / "two")


def test_a_recording_that_holds_less_than_it_promises_is_refused(tmp_path, bundle):
    source = recording(tmp_path / "bag", odd=False)
    text = (source / "metadata.yaml").read_text()
    more = text.replace(f"message_count: {2 * COUNT}", f"message_count: {2 * COUNT + 7}")
    at = more.index("name: /camera_info")
    before = more.rindex(f"message_count: {COUNT}", 0, at)
    more = more[:before] + f"message_count: {COUNT + 7}" + more[before + len("message_count: 40") :]
    (source / "metadata.yaml").write_text(more)
    with pytest.raises(BagError, match=r" 47 messages.* 40;"):
        mesh(MeshConfig(source, tmp_path / "out", model=bundle, fov=60.0))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("fov", 180.0),
        ("fov", float("nan")),
        ("camera_fx", -1.0),
        ("camera_cx", 3.0),
        ("image_size", (640, 0)),
        ("fps", 0.0),
        ("layout", "nonsense"),
        ("threads", 0),
        ("segment", 0),
        ("meshes_topic", "meshes"),
    ],
)
def test_options_out_of_range_are_refused_by_name_and_value(option, value):
    named = re.escape(f"{value}") + f"|--{option}".replace("_", "-")
    with pytest.raises(Key2MeshError, match=f"{named}|fx"):
        MeshConfig(Path("a"), Path("b"), **{option: value})


def test_the_lines_of_the_page_are_understood():
    page = (Path(__file__).parents[2] / "docs" / "meshes.md").read_text()
    lines = re.findall(r"^key2mesh mesh ([^#\n]*)", page, re.MULTILINE)
    configs = [
        tyro.cli(MeshConfig, args=shlex.split(line), config=(tyro.conf.PositionalRequiredArgs,))
        for line in lines
    ]
    assert len(configs) >= 4
    assert {c.image_size for c in configs} == {(0, 0), (1280, 720)}
    options = set(re.findall(r"`--([a-z-]+)`", page)) - {"no-vertices", "restart"}
    assert {name.replace("-", "_") for name in options} <= set(MeshConfig.__dataclass_fields__)


@pytest.mark.parametrize(("form", "name"), FORMS)
def test_a_recording_without_anybody_ends_with_the_causes_and_nothing_is_written(
    tmp_path, bundle, form, name
):
    refused = keypoint_recording("/people", frames(5))
    for message in refused.messages:
        message.value.layout = "squid"
    few = frames(8)
    for frame in few:
        frame.keypoints[:, 5:, 2] = 0
    for number, (recorded, cause) in enumerate(
        ((refused, "5 x unknown_layout"), (keypoint_recording("/people", few), "too_few_keypoints"))
    ):
        source = tmp_path / f"bag{number}"
        write_bag(source, [recorded])
        with pytest.raises(Key2MeshError, match=cause):
            mesh(MeshConfig(source, tmp_path / name, form=form, model=bundle, fov=60.0))
        assert not (tmp_path / name).exists()
        assert not (tmp_path / f"{name}.partial").exists()
