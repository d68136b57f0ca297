# SPDX-License-Identifier: Apache-2.0
"""Few people run on 8-bit blocks, many on floats: same bytes, same results, a measured limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import pytest
from onnx import numpy_helper

from key2mesh_core.errors import EngineError
from key2mesh_core.model import block_linear
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.engines import block_function, crossover
from key2mesh_core.model.engines.onnx import OnnxEngine


@pytest.fixture(scope="module")
def pose_path():
    return load_bundle("default").pose_path


def test_only_the_function_is_another(pose_path):
    graph = pose_path.read_bytes()
    found = onnx.load_model_from_string(block_function.with_float_products(graph))
    onnx.checker.check_model(found, full_check=True)
    (function,) = found.functions
    assert [node.op_type for node in function.node] == ["DequantizeLinear", "Gemm"]
    before = onnx.load_model_from_string(graph)
    del before.functions[:], found.functions[:]
    assert found == before


def test_the_new_function_computes_what_the_reference_evaluator_does(tmp_path):
    random = np.random.default_rng(0)
    weight = random.normal(size=(256, 96)).astype(np.float32)
    bias = random.normal(size=96).astype(np.float32)
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 17]>'
        " linear (float[N,256] x) => (float[N,96] y) { y = Gemm (x, w, b) }"
    )
    for name, each in (("w", weight), ("b", bias)):
        model.graph.initializer.append(numpy_helper.from_array(each, name))
    blocks = block_linear.with_block_weights(model).SerializeToString()
    floats = block_function.with_float_products(blocks)
    x = random.normal(size=(40, 256)).astype(np.float32)
    evaluator = onnx.reference.ReferenceEvaluator(onnx.load_model_from_string(floats))
    expected = x @ block_linear.rounded(weight) + bias
    np.testing.assert_allclose(evaluator.run(None, {"x": x})[0], expected, atol=1e-4)
    (tmp_path / "linear.onnx").write_bytes(blocks)
    engine = OnnxEngine(tmp_path / "linear.onnx", threads=2)
    np.testing.assert_allclose(engine.run({"x": x})["y"], expected, atol=1e-4)


def test_a_graph_without_blocks_has_one_way_only():
    assert block_function.with_float_products(load_bundle("default").mesh_path.read_bytes()) is None


@pytest.mark.parametrize("cut", [1, 100, 100_000])
def test_a_truncated_file_is_damaged(pose_path, cut):
    with pytest.raises(EngineError, match="damaged"):
        block_function.with_float_products(pose_path.read_bytes()[:-cut])


class Session:
    """A fake session with a given time per number of people."""

    def __init__(self, start_ms: float, each_ms: float) -> None:
        self.start_ms, self.each_ms = start_ms, each_ms

    def get_inputs(self):
        return [SimpleNamespace(name="x", shape=["N", 3])]

    def run(self, _, inputs):
        time.sleep((self.start_ms + self.each_ms * len(inputs["x"])) / 1000)


@pytest.mark.parametrize(
    ("few", "many", "expected"),
    [
        (Session(1, 2), Session(10, 0.1), 4),  # 5 against 10.4, then 9 against 10.4, 17 against 11
        (Session(5, 1), Session(1, 1), 0),
        (Session(1, 0.5), Session(20, 1), 16),
    ],
)
def test_the_limit_is_where_the_two_meet(few, many, expected):
    found = crossover.measure(few, many)
    assert found == expected or (expected == 4 and found in (2, 4))


def test_it_is_measured_once_without_vnni(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(crossover, "_processor", lambda: "aarch64 0x41 0xd42")
    few, many = Session(1, 0), Session(5, 0)
    assert crossover.most_persons_of_few(few, many, "graph") == 16
    (kept,) = (tmp_path / "key2mesh" / "crossover").iterdir()
    kept.write_text("2")
    assert crossover.most_persons_of_few(few, many, "graph") == 2
    for damaged in ("", "[]", "3", json.dumps("x"), "NaN"):
        kept.write_text(damaged)
        assert crossover.most_persons_of_few(few, many, "graph") == 16
    assert crossover.most_persons_of_few(many, few, "another graph") == 0


def test_a_home_that_cannot_be_written_is_no_fault(tmp_path, monkeypatch):
    (tmp_path / "key2mesh").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(crossover, "_processor", lambda: "riscv64")
    assert crossover.most_persons_of_few(Session(0, 0), Session(3, 0), "graph") == 16


@pytest.mark.parametrize("limit", [0, 2, 16])
def test_the_limit_does_not_change_the_answer(pose_path, tmp_path, monkeypatch, limit):
    from benchmarks.people import camera, people

    monkeypatch.setattr(crossover, "measure", lambda few, many: limit)
    monkeypatch.setattr(crossover, "_processor", lambda: "riscv64")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engine = OnnxEngine(pose_path)
    assert engine.few == limit
    intrinsics = np.tile(camera().as_array(), (8, 1)).astype(np.float32)
    inputs = {"keypoints": people(8), "intrinsics": intrinsics}
    together = engine.run(inputs)["joints"]
    for size in (1, 2, 3):
        alone = engine.run({name: x[:size] for name, x in inputs.items()})["joints"]
        pelvis = alone[:, :1] - together[:size, :1]
        assert np.abs(alone - pelvis - together[:size]).max() < 1e-4  # m


RUN = """
import pathlib, socket, sys
def audit(event, arguments):
    if event.startswith("socket."):
        print("opened", event)
sys.addaudithook(audit)
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
estimator = Estimator(load_bundle("default"))
estimator.warm_up()
estimator.close()
for entry in pathlib.Path("/proc/self/fd").iterdir():
    try:
        target = str(entry.readlink())
    except OSError:
        continue
    if target.startswith("socket:"):
        print("open", target)
print(pathlib.Path("/proc/self/maps").read_text().count("onnxruntime_pybind11_state") > 0)
"""


def test_a_run_leaves_no_file_in_an_empty_home_and_opens_no_socket(tmp_path):
    """onnxruntime 1.32 leaves ~/.cache/Microsoft/DeveloperTools/.onnxruntime unless told not to."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("XDG_") and name != "ORT_DISABLE_TELEMETRY"
    }
    found = subprocess.run(
        [sys.executable, "-c", RUN],
        env=environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert found.stdout.split() == ["True"]
    left = [path for path in home.rglob("*") if path.is_file()]
    assert all("crossover" in str(path) for path in left), left
