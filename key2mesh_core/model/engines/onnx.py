# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU: the default engine and the reference for the others."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import EngineError
from key2mesh_core.model.engines.block_function import with_float_products
from key2mesh_core.model.engines.crossover import most_persons_of_few
from key2mesh_core.model.engines.protocol import Signature, Tensors

# A tensor stored in another file has an entry {key: "location", value: path}; this is the protobuf
# encoding of the key. Such a graph could make the library read arbitrary files.
_EXTERNAL_DATA = b"\x0a\x08location"

FEW = 4
"""Up to this many people, one thread is fastest: waking others takes longer than their share of the
work."""

POSE_CHUNK, MESH_CHUNK = 128, 16
"""People per run of each graph, so that intermediate results stay in the processor's cache and
memory stays bounded (skinning needs about 0.5 MB per person)."""


def import_onnxruntime() -> ModuleType:
    """The package onnxruntime with telemetry off; the only place that imports it.

    Since version 1.32 it keeps an identifier and a database in the user's cache folder and sends
    reports, also on Linux, unless this variable is set before it is imported.

    Raises:
        EngineError: it is not installed.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        reason = f"ONNX Runtime is not installed ({error}): pip install onnxruntime"
        raise EngineError(reason) from error
    return onnxruntime


class OnnxEngine:
    """One graph in ONNX Runtime. Several threads may call `run` at once.

    Holds the graph twice: once for few people, on the caller's thread and with weights in blocks of
    8-bit integers if the graph has them, and once for many, on all threads and with the same
    weights as 32-bit floats. Both give the same results.

    Args:
        path: a self-contained .onnx file.
        threads: number of threads for a call with more than a few people, including the caller's.
        signature: the graph's expected inputs and outputs; unchecked if None.
        most: the most people of one run that is fast; more are taken, too.

    Attributes:
        device: where the graph runs, in words.
        few: largest number of people in a call that counts as few.

    Raises:
        EngineError: ONNX Runtime is not installed, or the file cannot be read, is damaged, stores
            tensors in other files, or does not match the signature. Names the file.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int = 2,
        signature: Signature | None = None,
        most: int = POSE_CHUNK,
    ) -> None:
        self._path, self.most = Path(path), most
        if threads < 1:
            raise EngineError(f"threads must be at least 1, got {threads}")
        try:
            onnxruntime = import_onnxruntime()
        except EngineError as error:
            raise EngineError(f"{self._path}: {error}") from error
        graph = read_graph(self._path)
        try:
            floats = with_float_products(graph)
            self._for_few = self._for_many = _load(onnxruntime, graph, 1)
            if floats is not None:
                self._for_many = _load(onnxruntime, floats, threads, fold_weights=True)
            elif threads > 1:
                self._for_many = _load(onnxruntime, graph, threads)
        except Exception as error:  # the library's errors have no other common base class
            raise EngineError(
                f"{self._path}: ONNX Runtime {onnxruntime.__version__} cannot load it "
                f"({first_line(error)}); copy or export the file again"
            ) from error
        if signature is not None:
            check_session(self._for_few, str(self._path), signature)
        self._outputs = [output.name for output in self._for_few.get_outputs()]
        self.few = FEW
        if floats is not None:
            name = f"{onnxruntime.__version__} {threads} {self._path.name} {len(graph)}"
            self.few = most_persons_of_few(self._for_few, self._for_many, name)
        if self.few == 0:
            self._for_few = self._for_many
        self.device = f"CPU, ONNX Runtime {onnxruntime.__version__}, threads={threads}"

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Outputs by name; see `Engine.run`. Arrays that are not contiguous are copied."""
        few = all(len(each) <= self.few for each in inputs.values())
        session = self._for_few if few else self._for_many
        return run_session(session, self._path, self._outputs, inputs)

    def close(self) -> None:
        """Free the sessions; later runs raise EngineError."""
        self._for_few = self._for_many = None


def run_session(
    session: Any, path: Path, outputs: list[str], inputs: Tensors, options: Any = None
) -> dict[str, NDArray[np.float32]]:
    """The outputs of a session (None once it is closed) by name; raises EngineError naming the
    file."""
    if session is None:
        raise EngineError(f"{path}: the engine is closed")
    try:
        # Binding buffers (io_binding) is no faster on the CPU (measured).
        results = session.run(outputs, dict(inputs), options)
    except Exception as error:  # the library's errors have no other common base class
        raise EngineError(f"{path}: {first_line(error)}") from error
    return dict(zip(outputs, results, strict=True))


def read_graph(path: Path) -> bytes:
    """The content of an .onnx file that needs no other file.

    Raises:
        EngineError: the file cannot be read, or stores tensors in other files.
    """
    try:
        graph = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {error.strerror}") from error
    if _EXTERNAL_DATA in graph:
        raise EngineError(
            f"{path}: stores tensors in other files, which is refused: export it again"
        )
    return graph


def check_session(session: Any, graph: str, signature: Signature) -> None:
    """Raises EngineError unless a session's inputs and outputs match the signature."""
    arguments = {"inputs": session.get_inputs(), "outputs": session.get_outputs()}
    for argument in (*arguments["inputs"], *arguments["outputs"]):
        name, kind = argument.name, argument.type
        if kind != "tensor(float)":
            raise EngineError(f"{graph}: '{name}' must be tensor(float), is {kind}")
    shapes = {kind: {each.name: each.shape for each in arguments[kind]} for kind in arguments}
    signature.check(graph, shapes["inputs"], shapes["outputs"])


def session_options(onnxruntime: ModuleType, threads: int) -> Any:
    """The options of all our sessions."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # The graphs are chains without parallel branches.
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Spinning idle threads take the cores from the other graph's session (which took twice as long
    # on two cores) and from the rest of the robot; sleeping costs microseconds.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Otherwise the library would accept bytes in its own format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 4  # errors are raised with the file's name, not printed
    return options


def first_line(error: Exception) -> str:
    """The first line of an error, which names the cause; the library adds pages of hints."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _load(onnxruntime: ModuleType, graph: bytes, threads: int, fold_weights: bool = False) -> Any:
    options = session_options(onnxruntime, threads)
    if fold_weights:
        # Dequantises constant weights once at load time, not in a kernel at each run.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    else:
        # Multiplies weights in blocks of 8-bit integers as integers (see block_linear.py).
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "4")
    # From bytes, so that the library has no folder in which to look for further files.
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
