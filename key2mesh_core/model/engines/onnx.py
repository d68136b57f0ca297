# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU: the default engine, and the reference for the others."""

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

# A tensor kept outside the file has an entry {key: "location", value: path}; this is how
# protobuf writes its key. Such a graph would make the library read files of its choosing.
_EXTERNAL_DATA = b"\x0a\x08location"

FEW = 4
"""So many persons are one thread's work: waking others takes longer than what they would do."""


def import_onnxruntime() -> ModuleType:
    """The package onnxruntime, with its telemetry off: the only place that imports it.

    From version 1.32 on it keeps an identifier and a database in the user's cache folder and sends
    reports, on Linux too, unless this variable is set before it is imported.

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

    Holds the graph twice: once for a few persons, on the caller's thread and with weights in blocks
    of 8-bit integers if the graph has them, once for many, on all threads and with those weights as
    32-bit floats. The weights are the same, so are the answers.

    Args:
        path: a self-contained .onnx file.
        threads: threads for a call with more than a few persons, the caller's included.
        signature: what the graph must look like; unchecked if None.

    Attributes:
        device: where the graph runs, in words.
        few: the most persons of a call that counts as few.

    Raises:
        EngineError: naming the file: ONNX Runtime is not installed, the file cannot be read or
            is damaged, keeps tensors in other files, or does not fit the signature.
    """

    def __init__(
        self, path: str | Path, threads: int = 2, signature: Signature | None = None
    ) -> None:
        self._path = Path(path)
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
        except Exception as error:  # the library's errors have no common ancestor but this one
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
        """Outputs by name; see `Engine.run`. Arrays of other strides are copied."""
        few = all(len(each) <= self.few for each in inputs.values())
        session = self._for_few if few else self._for_many
        return run_session(session, self._path, self._outputs, inputs)

    def close(self) -> None:
        """Free the sessions; later runs raise EngineError."""
        self._for_few = self._for_many = None


def run_session(
    session: Any, path: Path, outputs: list[str], inputs: Tensors
) -> dict[str, NDArray[np.float32]]:
    """Outputs by name of a session, None once it is closed; raises EngineError naming the file."""
    if session is None:
        raise EngineError(f"{path}: the engine is closed")
    try:
        # Binding buffers (io_binding) was measured and is no faster on the CPU.
        results = session.run(outputs, dict(inputs))
    except Exception as error:  # the library's errors have no common ancestor but this one
        raise EngineError(f"{path}: {first_line(error)}") from error
    return dict(zip(outputs, results, strict=True))


def read_graph(path: Path) -> bytes:
    """The content of an .onnx file that needs no other file.

    Raises:
        EngineError: it cannot be read, or keeps tensors in other files.
    """
    try:
        graph = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {error.strerror}") from error
    if _EXTERNAL_DATA in graph:
        raise EngineError(
            f"{path}: keeps tensors in other files, which is refused: export it again"
        )
    return graph


def check_session(session: Any, graph: str, signature: Signature) -> None:
    """Raises EngineError unless a session's inputs and outputs are those of the signature."""
    arguments = {"inputs": session.get_inputs(), "outputs": session.get_outputs()}
    for argument in (*arguments["inputs"], *arguments["outputs"]):
        name, kind = argument.name, argument.type
        if kind != "tensor(float)":
            raise EngineError(f"{graph}: '{name}' must be tensor(float), is {kind}")
    shapes = {kind: {each.name: each.shape for each in arguments[kind]} for kind in arguments}
    signature.check(graph, shapes["inputs"], shapes["outputs"])


def session_options(onnxruntime: ModuleType, threads: int) -> Any:
    """What every session of ours is made with."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # The graphs are chains: there are no branches to run side by side.
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Idle threads that spin keep the cores from the other graph's session (which took twice
    # as long on two cores) and from the rest of a robot; sleeping costs microseconds.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Bytes that look like the library's own format would otherwise be taken as such.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 4  # errors are raised, with the file's name; not printed
    return options


def first_line(error: Exception) -> str:
    """The library's messages carry pages of hints; the first line holds the cause."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _load(onnxruntime: ModuleType, graph: bytes, threads: int, fold_weights: bool = False) -> Any:
    options = session_options(onnxruntime, threads)
    if fold_weights:
        # Dequantises constant weights once, while loading, instead of leaving them to a kernel.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    else:
        # Weights in blocks of 8-bit integers are multiplied as such (see block_linear.py).
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "4")
    # From bytes, so that the library has no folder to look for further files in.
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
