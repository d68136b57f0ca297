# SPDX-License-Identifier: Apache-2.0
"""Weights in blocks: the stored weights are the ones used, and can be converted back."""

import numpy as np
import onnx
import onnx.parser
import onnx.reference
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import numpy_helper

from key2mesh_core.errors import EngineError
from key2mesh_core.model.block_linear import (
    BLOCK,
    fits,
    from_blocks,
    is_block_linear,
    rounded,
    to_blocks,
    with_block_weights,
    with_float_weights,
)
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.engines.onnx import OnnxEngine

INPUTS, OUTPUTS = 4 * BLOCK, 96


def weight(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(INPUTS, OUTPUTS)).astype(np.float32)


def gemm_model(values: np.ndarray, bias: np.ndarray, transposed: bool = False) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 9, opset_import: ["" : 17]>
        linear (float[N,{INPUTS}] x) => (float[N,{OUTPUTS}] y)
        {{ y = Gemm <transB = {int(transposed)}> (x, w, b) }}
        """
    )
    stored = np.ascontiguousarray(values.T) if transposed else values
    for name, each in (("w", stored), ("b", bias)):
        model.graph.initializer.append(numpy_helper.from_array(each, name))
    return model


def run(model: onnx.ModelProto, x: np.ndarray, folder) -> np.ndarray:
    path = folder / "linear.onnx"
    onnx.save(model, path)
    return OnnxEngine(path).run({"x": x})["y"]


def test_no_weight_moves_by_more_than_half_a_step():
    values = weight()
    integers, scales = to_blocks(values)
    assert integers.dtype == np.int8
    assert integers.shape == values.shape
    assert scales.shape == (INPUTS // BLOCK, OUTPUTS)
    step = np.repeat(scales, BLOCK, axis=0)
    assert (np.abs(from_blocks(integers, scales) - values) <= 0.5001 * step).all()


@given(
    arrays(np.float32, (BLOCK, 3), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False))
)
def test_rounding_twice_is_rounding_once(values):
    once = from_blocks(*to_blocks(values))
    assert np.isfinite(once).all()
    np.testing.assert_allclose(from_blocks(*to_blocks(once)), once, rtol=1e-6, atol=1e-30)


def test_small_and_odd_layers_stay_as_they_are():
    assert not fits((36, 1024))
    assert not fits((BLOCK, 8))
    odd = np.ones((36, 1024), np.float32) / 3
    np.testing.assert_array_equal(rounded(odd), odd)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("persons", [1, 5])
def test_the_engine_multiplies_with_what_is_stored(tmp_path, transposed, persons):
    random = np.random.default_rng(1)
    values, bias = weight(), random.normal(size=OUTPUTS).astype(np.float32)
    blocks = with_block_weights(gemm_model(values, bias, transposed))
    onnx.checker.check_model(blocks, full_check=True)
    assert [is_block_linear(node) for node in blocks.graph.node] == [True]
    # Blocks of very different sizes, as features have; one person is all zeros.
    x = random.normal(size=(persons, INPUTS)) * np.exp(random.normal(size=(persons, INPUTS)))
    if persons > 1:
        x[-1] = 0
    x = x.astype(np.float32)
    true = x.astype(np.float64) @ rounded(values).astype(np.float64) + bias
    error = np.abs(run(blocks, x, tmp_path) - true)
    assert error.max() < 1e-4 * np.abs(true).max()
    # With only 8 bits of the input the result is far worse: the second row is needed.
    scale = np.abs(x.reshape(persons, -1, BLOCK)).max(2, keepdims=True) / 127 + 1e-30
    eight_bits = (np.rint(x.reshape(persons, -1, BLOCK) / scale) * scale).reshape(persons, INPUTS)
    rough = np.abs(eight_bits @ rounded(values) + bias - true)
    assert error.max() < 0.05 * rough.max()


def test_the_definition_in_the_file_says_the_same(tmp_path):
    bias = np.zeros(OUTPUTS, np.float32)
    blocks = with_block_weights(gemm_model(weight(), bias))
    x = np.random.default_rng(2).normal(size=(3, INPUTS)).astype(np.float32)
    (reference,) = onnx.reference.ReferenceEvaluator(blocks).run(None, {"x": x})
    np.testing.assert_allclose(reference, x @ rounded(weight()), atol=2e-4)


def test_float_weights_come_back(tmp_path):
    bias = np.arange(OUTPUTS, dtype=np.float32)
    model = gemm_model(weight(), bias)
    restored = with_float_weights(with_block_weights(model))
    onnx.checker.check_model(restored, full_check=True)
    assert [node.op_type for node in restored.graph.node] == ["Gemm"]
    assert not restored.functions
    assert {each.domain for each in restored.opset_import} == {""}
    found = {each.name: numpy_helper.to_array(each) for each in restored.graph.initializer}
    np.testing.assert_array_equal(found["w"], rounded(weight()))
    np.testing.assert_array_equal(found["b"], bias)


def test_a_graph_without_large_layers_stays_as_it_is():
    model = gemm_model(weight(), np.zeros(OUTPUTS, np.float32))
    del model.graph.node[:]
    assert not with_block_weights(model).functions


def test_blocks_that_do_not_fit_their_scales_are_refused():
    blocks = with_block_weights(gemm_model(weight(), np.zeros(OUTPUTS, np.float32)))
    for tensor in blocks.graph.initializer:
        if tensor.name == "w.scales":
            tensor.CopyFrom(numpy_helper.from_array(np.ones((3, OUTPUTS), np.float32), tensor.name))
    with pytest.raises(EngineError, match="do not go with"):
        with_float_weights(blocks)


def test_the_default_bundle_has_all_large_layers_in_blocks():
    model = onnx.load(load_bundle().pose_path)
    assert sum(map(is_block_linear, model.graph.node)) == 8  # the certainty, too, which is small
    restored = with_float_weights(model)
    large = [t for t in restored.graph.initializer if np.prod(t.dims) >= 1 << 17]
    assert len(large) == 7
