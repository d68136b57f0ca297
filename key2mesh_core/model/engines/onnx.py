# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on the CPU: the default engine, and the reference for the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core.errors import EngineError
from key2mesh_core.model.engines.protocol import Signature, Tensors

# A tensor kept outside the file has an entry {key: "location", value: path}; this is how
# protobuf writes its key. Such a graph would make the library read files of its choosing.
_EXTERNAL_DATA = b"\x0a\x08location"

FEW = 4
"""So many persons are one thread's work: waking others takes longer than what they would do."""


class OnnxEngine:
    """One graph in ONNX Runtime. Several threads may call `run` at once.

    Args:
        path: a self-contained .onnx file.
        threads: threads for a call with more than a few persons, the caller's included.
        signature: what the graph must look like; unchecked if None.

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
            import onnxruntime
        except ImportError as error:
            raise EngineError(
                f"{self._path}: ONNX Runtime is needed to run it: pip install onnxruntime"
            ) from error
        try:
            graph = self._path.read_bytes()
        except OSError as error:
            raise EngineError(f"{self._path}: cannot be read: {error.strerror}") from error
        if _EXTERNAL_DATA in graph:
            raise EngineError(
                f"{self._path}: keeps tensors in other files, which is refused; "
                "export it as one self-contained file"
            )
        try:
            self._session = _load(onnxruntime, graph, threads)
            self._for_few = self._session if threads == 1 else _load(onnxruntime, graph, 1)
        except Exception as error:  # the library's errors have no common ancestor but this one
            raise EngineError(
                f"{self._path}: ONNX Runtime {onnxruntime.__version__} cannot load it "
                f"({_first_line(error)}); copy or export the file again"
            ) from error
        if signature is not None:
            self._check(signature)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.device = f"CPU, ONNX Runtime {onnxruntime.__version__}, threads={threads}"

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Outputs by name; see `Engine.run`. Arrays of other strides are copied."""
        if self._session is None:
            raise EngineError(f"{self._path}: the engine is closed")
        try:
            # Binding buffers (io_binding) was measured and is no faster on the CPU.
            few = all(len(each) <= FEW for each in inputs.values())
            session = self._for_few if few else self._session
            results = session.run(self._outputs, dict(inputs))
        except Exception as error:  # as above
            raise EngineError(f"{self._path}: {_first_line(error)}") from error
        return dict(zip(self._outputs, results, strict=True))

    def close(self) -> None:
        """Free the session; later runs raise EngineError."""
        self._session = self._for_few = None

    def _check(self, signature: Signature) -> None:
        arguments = {"inputs": self._session.get_inputs(), "outputs": self._session.get_outputs()}
        for argument in (*arguments["inputs"], *arguments["outputs"]):
            if argument.type != "tensor(float)":
                raise EngineError(
                    f"{self._path}: '{argument.name}' must be tensor(float), is {argument.type}"
                )
        shapes = {kind: {each.name: each.shape for each in arguments[kind]} for kind in arguments}
        signature.check(str(self._path), shapes["inputs"], shapes["outputs"])


def _load(onnxruntime: Any, graph: bytes, threads: int) -> Any:
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
    # Weights in blocks of 8-bit integers are multiplied as such (see block_linear.py).
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "4")
    options.log_severity_level = 4  # errors are raised, with the file's name; not printed
    # From bytes, so that the library has no folder to look for further files in.
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _first_line(error: Exception) -> str:
    """The library's messages carry pages of hints; the first line holds the cause."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
