# SPDX-License-Identifier: Apache-2.0
"""Both graphs of the default bundle become engines, for real, on a machine without a GPU."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers_bundle import mesh_model
from onnx import TensorProto, helper, numpy_helper

from key2mesh_core.cli.build_engine import sample_people
from key2mesh_core.errors import EngineError
from key2mesh_core.keypoints.table import REQUIRED
from key2mesh_core.model import block_linear
from key2mesh_core.model.bundle import POSE_SIGNATURE, load_bundle, mesh_signature
from key2mesh_core.model.engines.onnx import import_onnxruntime
from key2mesh_core.model.engines.tensorrt_build import (
    PERSONS,
    Plan,
    build,
    define,
    find_library,
)
from key2mesh_core.model.engines.typed_graph import halve_layers, typed

pytest.importorskip("tensorrt_rtx")


@pytest.fixture(scope="module")
def library():
    return find_library(("tensorrt_rtx",))


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("default")


@pytest.fixture(scope="module")
def graphs(bundle):
    """name -> (the bundle's graph, its typed form, signature)."""
    pose, mesh = bundle.pose_path.read_bytes(), bundle.mesh_path.read_bytes()
    body = mesh_signature(bundle.vertex_count)
    return {
        "pose fp32": (pose, typed(pose, "fp32"), POSE_SIGNATURE),
        "pose fp16": (pose, typed(pose, "fp16"), POSE_SIGNATURE),
        "mesh fp32": (mesh, typed(mesh, "fp32"), body),
    }


def answers(graph: bytes, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def people(count: int) -> dict[str, np.ndarray]:
    camera = np.tile(np.float32([500, 510, 320, 240]), (count, 1))
    return {"keypoints": sample_people(count, REQUIRED), "intrinsics": camera}


@pytest.mark.parametrize("name", ["pose fp32", "pose fp16", "mesh fp32"])
def test_both_graphs_build(graphs, library, name):
    graph, _, signature = graphs[name]
    plan = build(Plan(name, graph, signature, library, "none", name.split()[1]))
    # The weights are in it, in their type: 6.5 million in the network, 0.4 million in the body.
    megabytes = len(plan) / 1e6
    least, most = {"pose fp32": (26, 45), "pose fp16": (13, 26), "mesh fp32": (1.4, 10)}[name]
    assert least < megabytes < most


@pytest.mark.parametrize("name", ["pose fp32", "pose fp16", "mesh fp32"])
def test_inputs_outputs_and_types_are_what_the_graph_says(graphs, library, name):
    graph, content, signature = graphs[name]
    _, network = define(content, Plan(name, graph, signature, library, "none", "fp32"))
    module = library.module
    inputs = {t.name: tuple(t.shape) for t in map(network.get_input, range(network.num_inputs))}
    outputs = {t.name: tuple(t.shape) for t in map(network.get_output, range(network.num_outputs))}
    assert inputs == {key: (-1, *shape) for key, shape in signature.inputs.items()}
    assert {key: shape[0] for key, shape in outputs.items()} == dict.fromkeys(signature.outputs, -1)
    layers = [network.get_layer(k) for k in range(network.num_layers)]
    products = [each for each in layers if each.type == module.LayerType.MATRIX_MULTIPLY]
    halves = [each for each in products if each.get_output(0).dtype == module.float16]
    # The network's six hidden layers, and nothing of the body or of the geometry.
    assert len(halves) == (6 if name == "pose fp16" else 0)
    assert len(products) > len(halves) + 6
    assert all(each.get_input(1).shape[-1] == 1024 for each in halves)
    others = {each.get_output(0).dtype for each in products if each not in halves}
    assert others == {module.float32}


def test_a_profile_that_cannot_be_is_refused(graphs, library):
    graph, _, signature = graphs["mesh fp32"]
    plan = Plan("mesh.onnx", graph, signature, library, "none", "fp32", (9, 8, 512))
    words = r"mesh\.onnx: TensorRT for RTX .* (refuses|cannot build)"
    with pytest.raises(EngineError, match=words):
        build(plan)
    assert PERSONS == (1, 8, 512)


def test_float_weights_change_no_answer(graphs):
    graph, content, _ = graphs["pose fp32"]
    model = onnx.load_model_from_string(content)
    assert not model.functions
    assert {each.data_type for each in model.graph.initializer} <= {
        TensorProto.FLOAT,
        TensorProto.INT64,
        TensorProto.BOOL,
    }
    expected, found = answers(graph, people(32)), answers(content, people(32))
    for name in ("joints", "translation"):
        difference = np.abs(found[name] - expected[name]).max()
        assert difference < 1e-4, name  # [m]; ONNX Runtime rounds what it multiplies blocks with


def test_half_layers_move_vertices_less_than_a_millimetre(graphs):
    inputs = people(256)
    joints = []
    for name in ("pose fp32", "pose fp16"):
        posed = answers(graphs[name][1], inputs)
        chosen = {key: posed[key] for key in ("betas", "rotations", "translation")}
        mesh = answers(graphs["mesh fp32"][1], chosen)["vertices"]
        joints.append(mesh - posed["translation"][:, None])
    distance = np.linalg.norm(joints[0] - joints[1], axis=2)
    assert 0 < distance.max() < 1e-3  # [m]
    assert distance.mean() < 1e-4


def linear_model(width: int = 512, large: float = 0.0) -> onnx.ModelProto:
    """x (N, width) -> y (N, width): one layer named as the network's are."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((width, width)).astype(np.float32) / width
    weight[0, 0] = max(large, weight[0, 0])
    tensors = {"network.weight": weight, "network.bias": np.ones(width, np.float32)}
    node = helper.make_node("Gemm", ["x", "network.weight", "network.bias"], ["y"])
    return helper.make_model(
        helper.make_graph(
            [node],
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", width])],
            [numpy_helper.from_array(value, name) for name, value in tensors.items()],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )


def test_blocks_become_floats():
    model = block_linear.with_block_weights(linear_model())
    result = onnx.load_model_from_string(typed(model.SerializeToString(), "fp32"))
    assert [node.op_type for node in result.graph.node] == ["Gemm"]
    assert sorted(each.data_type for each in result.graph.initializer) == [TensorProto.FLOAT] * 2
    onnx.checker.check_model(result, full_check=True)
    x = np.random.default_rng(1).standard_normal((7, 512)).astype(np.float32)
    expected = answers(model.SerializeToString(), {"x": x})["y"]
    found = answers(result.SerializeToString(), {"x": x})["y"]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_half_layers_have_casts_around_them_and_nothing_else_is_touched():
    model = linear_model()
    result = onnx.load_model_from_string(typed(model.SerializeToString(), "fp16"))
    assert [node.op_type for node in result.graph.node] == ["Cast", "Gemm", "Cast"]
    assert {each.data_type for each in result.graph.initializer} == {TensorProto.FLOAT16}
    onnx.checker.check_model(result, full_check=True)
    x = np.random.default_rng(1).standard_normal((7, 512)).astype(np.float32)
    exact = answers(model.SerializeToString(), {"x": x})["y"]
    found = answers(result.SerializeToString(), {"x": x})["y"]
    assert found.dtype == np.float32
    assert 0 < np.abs(found - exact).max() < 2e-3


def test_what_no_half_can_hold_is_refused():
    with pytest.raises(EngineError, match=r"'network\.weight' reach 1e\+05.*use fp32"):
        halve_layers(linear_model(large=1e5))
    with pytest.raises(EngineError, match="no hidden layers"):
        halve_layers(mesh_model())
    with pytest.raises(EngineError, match="unknown precision 'fp8'; known: fp32, fp16"):
        typed(b"", "fp8")


def unknown_operator() -> bytes:
    model = mesh_model()
    model.graph.node[0].op_type = "Surprise"
    model.graph.node[0].domain = "nobody"
    model.opset_import.append(helper.make_opsetid("nobody", 1))
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (b"abc", "not a graph that can be typed"),
        (b"", "not a graph that can be typed"),
        (unknown_operator(), "cannot parse it: .*Surprise"),
    ],
)
def test_graphs_that_cannot_be_built_are_refused_by_name(library, graph, words):
    signature = mesh_signature(138)
    with pytest.raises(EngineError, match=rf"(?s)mesh\.onnx: .*{words}"):
        build(Plan("mesh.onnx", graph, signature, library, "none", "fp32"))


def test_a_graph_that_is_not_as_expected_is_refused(bundle, library):
    mesh = bundle.mesh_path.read_bytes()
    with pytest.raises(EngineError, match=r"mesh\.onnx: .*expected inputs"):
        build(Plan("mesh.onnx", mesh, POSE_SIGNATURE, library, "none", "fp32"))
    with pytest.raises(EngineError, match=r"'vertices' must have shape \('N', 138, 3\)"):
        build(Plan("mesh.onnx", mesh, mesh_signature(138), library, "none", "fp32"))


def test_what_building_for_a_gpu_lacks_is_told(graphs, library):
    graph, _, signature = graphs["mesh fp32"]
    try:
        plan = build(Plan("mesh.onnx", graph, signature, library, "a GPU", "fp32"))
    except EngineError as error:
        message = str(error)
        assert "mesh.onnx: TensorRT for RTX" in message
        assert "CUDA" in message or "Cuda" in message
    else:
        assert plan  # there is a GPU here
