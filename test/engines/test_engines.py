# SPDX-License-Identifier: Apache-2.0
"""The ONNX Runtime engine runs valid graphs and refuses others with the file's name."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_bundle import damage, make_bundle, mesh_model, pose_model, standing_person
from onnx import TensorProto, numpy_helper

from key2mesh_core.errors import EngineError
from key2mesh_core.model.bundle import POSE_SIGNATURE, Bundle, mesh_signature
from key2mesh_core.model.engines.onnx import FEW, OnnxEngine
from key2mesh_core.model.engines.protocol import Signature

INTRINSICS = np.array([[600, 600, 320, 240]], np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("engines"))


def _inputs(count: int = 1) -> dict[str, np.ndarray]:
    people = [standing_person((300 + 10 * k, 240), 200 + 7 * k) for k in range(count)]
    return {"keypoints": np.concatenate(people), "intrinsics": np.tile(INTRINSICS, (count, 1))}


def _save(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_a_person_gets_the_same_answer_alone_and_in_a_crowd(bundle):
    engine = OnnxEngine(bundle.pose_path, threads=2, signature=POSE_SIGNATURE)
    crowd = engine.run(_inputs(FEW + 3))
    few = engine.run(_inputs(FEW))
    for name, values in few.items():
        np.testing.assert_allclose(values, crowd[name][:FEW], rtol=1e-5, atol=1e-6)


def test_it_runs_the_graph_as_the_reference_evaluator_does(bundle):
    from onnx.reference import ReferenceEvaluator

    inputs = _inputs(3)
    engine = OnnxEngine(bundle.pose_path, signature=POSE_SIGNATURE)
    outputs = engine.run(inputs)
    assert list(outputs) == list(POSE_SIGNATURE.outputs)
    oracle = ReferenceEvaluator(str(bundle.pose_path)).run(list(outputs), inputs)
    for values, expected in zip(outputs.values(), oracle, strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_neither_batch_nor_threads_change_the_answer(bundle, threads):
    engine = OnnxEngine(bundle.pose_path, threads)
    assert f"threads={threads}" in engine.device
    together = engine.run(_inputs(7))
    for person in range(7):
        alone = engine.run({name: x[person : person + 1] for name, x in _inputs(7).items()})
        for name, values in alone.items():
            np.testing.assert_allclose(values[0], together[name][person], rtol=1e-5, atol=1e-5)


def test_several_threads_may_run_one_engine(bundle):
    engine = OnnxEngine(bundle.pose_path)
    expected = engine.run(_inputs(5))["joints"]
    wrong = []

    def work() -> None:
        for _ in range(50):
            if not np.array_equal(engine.run(_inputs(5))["joints"], expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("how", ["truncate", "empty", "remove"])
def test_a_damaged_file_is_named(tmp_path, how, capfd):
    path = _save(tmp_path / "pose.onnx", pose_model())
    damage(path, how)
    with pytest.raises(EngineError, match=r"pose\.onnx: (ONNX Runtime .*again|cannot be read)"):
        OnnxEngine(path)
    assert capfd.readouterr() == ("", "")  # the cause is raised, not printed as well


@pytest.mark.parametrize("content", [b"\0" * 100, b"ORTM" * 50, b"{}", b"\x80\x04K\x01."])
def test_what_is_no_graph_is_refused(tmp_path, content):
    path = tmp_path / "mesh.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"mesh\.onnx"):
        OnnxEngine(path, signature=mesh_signature(138))


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/hostname"])
def test_tensors_in_other_files_are_refused(tmp_path, location):
    model = mesh_model()
    tensor = model.graph.initializer[0]
    (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = _save(tmp_path / "mesh.onnx", model)
    with pytest.raises(EngineError, match=r"mesh\.onnx: .*other files"):
        OnnxEngine(path)


def test_threads_and_a_missing_library_are_explained(bundle, monkeypatch):
    with pytest.raises(EngineError, match="at least 1, got 0"):
        OnnxEngine(bundle.pose_path, threads=0)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match="pip install onnxruntime"):
        OnnxEngine(bundle.pose_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keypoints": _inputs()["keypoints"][:, :17]}, "keypoints"),
        ({"keypoints": _inputs()["keypoints"].astype(np.float64)}, "double"),
        ({"surprise": np.zeros(1, np.float32)}, "surprise"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_and_the_next_run_works(bundle, change, words):
    engine = OnnxEngine(bundle.pose_path)
    with pytest.raises(EngineError, match=rf"pose\.onnx: .*{words}"):
        engine.run(_inputs() | change)
    with pytest.raises(EngineError, match=r"pose\.onnx: .*intrinsics"):
        engine.run({"keypoints": _inputs()["keypoints"]})
    assert engine.run(_inputs())["betas"].shape == (1, 10)


def test_a_closed_engine_says_so(bundle):
    engine = OnnxEngine(bundle.pose_path)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(_inputs())


def _rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "betas_renamed"
    for node in model.graph.node:
        node.input[:] = ["betas_renamed" if x == "betas" else x for x in node.input]


def _fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def _other_size(model: onnx.ModelProto) -> None:
    model.graph.input[2].type.tensor_type.shape.dim[1].dim_value = 1  # still broadcasts


def _half_input(model: onnx.ModelProto) -> None:
    model.graph.input.add(name="extra").type.tensor_type.elem_type = TensorProto.FLOAT16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_rename_input, r"expected inputs \['betas', .*the graph has \['betas_renamed'"),
        (_fix_batch, r"'betas' must have shape \('N', 10\) with a dynamic N, .*\(1, 10\)"),
        (_other_size, r"'translation' must have shape \('N', 3\)"),
        (_half_input, r"'extra' must be tensor\(float\), is tensor\(float16\)"),
    ],
)
def test_a_graph_that_is_not_as_expected_is_refused(tmp_path, change, words):
    model = mesh_model()
    change(model)
    path = _save(tmp_path / "mesh.onnx", model)
    with pytest.raises(EngineError, match=rf"mesh\.onnx: .*{words}"):
        OnnxEngine(path, signature=mesh_signature(138))


def test_the_number_of_vertices_is_part_of_the_signature(bundle):
    with pytest.raises(EngineError, match=r"'vertices' must have shape \('N', 6890, 3\)"):
        OnnxEngine(bundle.mesh_path, signature=mesh_signature(6890))


def test_symbolic_sizes_of_an_exporter_pass():
    signature = Signature(inputs={"x": (3,)}, outputs={"y": ()})
    signature.check("g", {"x": ["n", "k"]}, {"y": [None]})
    with pytest.raises(EngineError, match=r"outputs? 'y' must have shape \('N',\)"):
        signature.check("g", {"x": ["n", 3]}, {"y": ["n", 1]})


def test_weights_that_spell_nothing_suspicious_are_let_through(tmp_path):
    model = mesh_model()
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "location2"))
    OnnxEngine(_save(tmp_path / "mesh.onnx", model))
