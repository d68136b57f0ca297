# SPDX-License-Identifier: Apache-2.0
"""Built engines are found by what they were built from, and trusted only if nobody else could have
written them."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import fields, replace
from pathlib import Path

import pytest

from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import POSE_SIGNATURE
from key2mesh_core.model.engines import tensorrt_build
from key2mesh_core.model.engines.engine_cache import EngineCache
from key2mesh_core.model.engines.protocol import Signature
from key2mesh_core.model.engines.tensorrt_build import Library, Plan

KEY = "pose-fp16-0123456789abcdef.engine"
PLAN = os.urandom(5000)


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "a" / "engines")


def write(cache: EngineCache) -> Path:
    cache.write(KEY, PLAN)
    return cache.folder / KEY


def test_what_is_kept_is_found_again(cache):
    assert cache.read(KEY) is None
    cache.write(KEY, PLAN)
    assert cache.read(KEY) == PLAN
    cache.write(KEY, PLAN[:100])
    assert cache.read(KEY) == PLAN[:100]
    cache.remove(KEY)
    cache.remove(KEY)
    assert cache.read(KEY) is None


def test_an_engine_under_another_ones_name_is_refused(cache):
    cache.write(KEY, PLAN)
    other = KEY.replace("0", "1")
    assert cache.read(other) is None
    os.rename(cache.folder / KEY, cache.folder / other)
    with pytest.raises(EngineError, match=r"built for something else.*key2mesh build-engine"):
        cache.read(other)


OTHER = {
    "name": "mesh.onnx",
    "graph": b"another",
    "signature": Signature({"keypoints": (22, 3)}, {}),
    "library": Library("tensorrt", "1.7.1", None, None, deque()),
    "gpu": "Stand-in (8.9)",
    "precision": "fp32",
    "persons": (1, 8, 64),
}


def test_a_change_of_anything_asks_for_another_engine(monkeypatch):
    library = Library("tensorrt_rtx", "1.7.1", None, None, deque())
    plan = Plan("pose.onnx", b"graph", POSE_SIGNATURE, library, "Stand-in (8.6)", "fp16")
    assert set(OTHER) == {field.name for field in fields(Plan)}
    plans = [replace(plan, **{change: value}) for change, value in OTHER.items()]
    plans.append(replace(plan, library=replace(library, version="1.7.2")))
    names = {each.file() for each in (plan, *plans)} | {plan.file("kernels")}
    monkeypatch.setattr(tensorrt_build, "RECIPE", 99)
    assert len({*names, plan.file()}) == len(plans) + 3


def test_only_its_user_can_read_or_write_it(cache):
    before = os.umask(0)
    try:
        path = write(cache)
    finally:
        os.umask(before)
    assert os.stat(cache.folder).st_mode & 0o777 == 0o700
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert list(cache.folder.iterdir()) == [path]


@pytest.mark.parametrize("end", [0, 5, 32, 100, -1])
def test_a_truncated_file_is_refused_by_name(cache, end):
    path = write(cache)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(EngineError, match=rf"{path.name}: .*so it is not used"):
        cache.read(KEY)
    cache.write(KEY, PLAN)
    assert cache.read(KEY) == PLAN


@pytest.mark.parametrize("place", [0, 30, -1, -2500])
def test_a_flipped_bit_is_found(cache, place):
    path = write(cache)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(EngineError, match=path.name):
        cache.read(KEY)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(cache, mode):
    path = write(cache)
    path.chmod(mode)
    with pytest.raises(EngineError, match=rf"{path.name}: .*0{mode:o}"):
        cache.read(KEY)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_is_refused(cache, mode):
    cache.write(KEY, PLAN)
    cache.folder.chmod(mode)
    for attempt in (lambda: cache.read(KEY), lambda: cache.write(KEY, PLAN)):
        with pytest.raises(EngineError, match="engines: can be written by others"):
            attempt()


def test_links_are_not_followed(cache, tmp_path):
    elsewhere = EngineCache(tmp_path / "elsewhere")
    real = write(elsewhere)
    cache.write(KEY, PLAN)
    cache.remove(KEY)
    (cache.folder / KEY).symlink_to(real)
    with pytest.raises(EngineError, match="cannot be read"):
        cache.read(KEY)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(cache):
    path = write(cache)
    os.chown(path, 12345, 12345)
    with pytest.raises(EngineError, match=rf"{path.name}: belongs to user 12345, not to 0"):
        cache.read(KEY)
    cache.write(KEY, PLAN)
    os.chown(cache.folder, 12345, 12345)
    with pytest.raises(EngineError, match="engines: belongs to user 12345"):
        cache.read(KEY)


def test_a_folder_or_a_pipe_in_its_place_is_refused(cache):
    cache.write(KEY, PLAN)
    cache.remove(KEY)
    (cache.folder / KEY).mkdir()
    with pytest.raises(EngineError, match="cannot be read"):
        cache.read(KEY)


def test_a_place_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"cannot be written .*XDG_CACHE_HOME"):
        EngineCache(tmp_path / "file" / "engines").write(KEY, PLAN)


def test_the_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineCache().folder == tmp_path / "key2mesh" / "engines"
    monkeypatch.setenv("HOME", "/home/somebody")
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert EngineCache().folder == Path("/home/somebody/.cache/key2mesh/engines")
