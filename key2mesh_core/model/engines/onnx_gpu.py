# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on an NVIDIA GPU: its TensorRT, TensorRT-RTX (a plug-in) and CUDA providers."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from key2mesh_core import io
from key2mesh_core.errors import EngineError
from key2mesh_core.model.engines.block_function import with_float_products
from key2mesh_core.model.engines.engine_cache import make_private
from key2mesh_core.model.engines.onnx import (
    check_session,
    first_line,
    import_onnxruntime,
    read_graph,
    run_session,
    session_options,
)
from key2mesh_core.model.engines.protocol import Signature, Tensors

RTX, TENSORRT = "NvTensorRTRTXExecutionProvider", "TensorrtExecutionProvider"
CUDA = "CUDAExecutionProvider"
_PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
_DEVICE = "cuda"
_PERSONS = {"min": 1, "opt": 8, "max": 512}
CAPTURED = _PERSONS["opt"]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class GpuOptions:
    """Options of the providers.

    Attributes:
        compile: whether TensorRT may compile the graph, which takes up to minutes if it is not
            cached; otherwise the graph runs on the CUDA provider's kernels.
        fp16: multiply the pose network's hidden layers in half precision, as backend "tensorrt"
            does (see `typed_graph`); loading then needs the package `onnx`.
        cuda_graphs: capture and replay runs of up to 8 persons. TensorRT's provider is then not
            used, because it replays its first capture for every number of people.
        cache: private folder for compiled engines; by default ~/.cache/key2mesh/onnxruntime.
    """

    compile: bool = True
    fp16: bool = False
    cuda_graphs: bool = False
    cache: Path | None = None


class OnnxGpuEngine:
    """One graph in ONNX Runtime on the GPU. Concurrent calls of `run` are serialised.

    Args:
        path: a self-contained .onnx file.
        signature: the graph's expected inputs and outputs.
        options: see `GpuOptions`.

    Attributes:
        device: where the graph runs, in words.

    Raises:
        EngineError: ONNX Runtime has no NVIDIA provider, there is no GPU, or the graph cannot be
            loaded or does not match the signature.
    """

    most = _PERSONS["max"]

    def __init__(
        self, path: str | Path, signature: Signature, options: GpuOptions | None = None
    ) -> None:
        options = GpuOptions() if options is None else options
        self._path, self._lock = Path(path), threading.Lock()
        onnxruntime = import_onnxruntime()
        provider = choose_provider(onnxruntime, options)
        graph = read_graph(self._path)
        graph = _typed(graph) if options.fp16 else with_float_products(graph) or graph
        try:
            self._session, graphs = _open(onnxruntime, graph, provider, signature, options)
        except EngineError as error:
            raise EngineError(f"{self._path}: {error}") from error
        # ONNX Runtime drops a provider that finds no GPU, with a warning, and uses the CPU instead.
        if self._session.get_providers()[0] == "CPUExecutionProvider":
            raise EngineError(f"{provider} does not find a GPU or its libraries")
        check_session(self._session, str(self._path), signature)
        self._signature, self._captured = signature, CAPTURED if graphs else 0
        self._bound: dict[int, tuple[Any, Any, dict[str, Any]]] = {}
        self._uncaptured = onnxruntime.RunOptions()
        self._uncaptured.add_run_config_entry("gpu_graph_id", "-1")
        self.device = f"ONNX Runtime {onnxruntime.__version__}, {self._session.get_providers()[0]}"

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Outputs by name; see `Engine.run`."""
        with self._lock:
            if 1 <= (persons := self._signature.persons(inputs)) <= self._captured:
                try:
                    return self._replay(persons, inputs)
                except Exception as error:
                    _LOG.info("%s: enqueued, not captured: %s", self._path, error)
                    self._captured = 0
            outputs, options = list(self._signature.outputs), self._uncaptured
            return run_session(self._session, self._path, outputs, inputs, options)

    def _replay(self, persons: int, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Runs with inputs and outputs at the addresses of the captured run."""
        onnxruntime = import_onnxruntime()
        if persons not in self._bound:
            binding, options = self._session.io_binding(), onnxruntime.RunOptions()
            options.add_run_config_entry("gpu_graph_id", str(persons))
            values = {
                name: onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                    (persons, *shape), np.float32, _DEVICE, 0
                )
                for name, shape in {**self._signature.inputs, **self._signature.outputs}.items()
            }
            for name in self._signature.inputs:
                binding.bind_ortvalue_input(name, values[name])
            for name in self._signature.outputs:
                binding.bind_ortvalue_output(name, values[name])
            self._bound[persons] = binding, options, values
        binding, options, values = self._bound[persons]
        for name, each in inputs.items():
            values[name].update_inplace(np.ascontiguousarray(each))
        self._session.run_with_iobinding(binding, options)
        return {name: values[name].numpy() for name in self._signature.outputs}

    def close(self) -> None:
        """Free the session; later runs raise EngineError."""
        with self._lock:
            self._session, self._captured = None, 0
            self._bound.clear()


def choose_provider(onnxruntime: ModuleType, options: GpuOptions) -> str:
    """The best installed NVIDIA provider; raises EngineError if there is none."""
    available = onnxruntime.get_available_providers()
    if options.compile:
        if importlib.util.find_spec(_PLUGIN) is not None:
            return RTX
        if TENSORRT in available and not options.cuda_graphs:
            return TENSORRT
    if CUDA in available:
        return CUDA
    raise EngineError(
        f"ONNX Runtime {onnxruntime.__version__} has no NVIDIA provider (it has "
        f"{', '.join(available)}): pip install onnxruntime-gpu, see docs/tensorrt.md"
    )


def provider_options(provider: str, signature: Signature, options: GpuOptions) -> dict[str, str]:
    """A provider's options under its own names, all as text."""
    if provider == CUDA:
        # TF32 keeps ten bits of the mantissa, which is a millimetre at the size of a body.
        return {"use_tf32": "0", "enable_cuda_graph": str(int(options.cuda_graphs))}
    cache = io.cache_folder() / "onnxruntime" if options.cache is None else options.cache
    make_private(cache)
    profiles = {
        kind: ",".join(
            f"{name}:{'x'.join(map(str, (persons, *shape)))}"
            for name, shape in signature.inputs.items()
        )
        for kind, persons in _PERSONS.items()
    }
    prefix = "nv" if provider == RTX else "trt"
    found = {f"{prefix}_profile_{kind}_shapes": text for kind, text in profiles.items()}
    if provider == RTX:
        graphs = str(int(options.cuda_graphs))
        return found | {"nv_runtime_cache_path": str(cache), "enable_cuda_graph": graphs}
    return found | {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "1",
    }


def _typed(graph: bytes) -> bytes:
    try:
        from key2mesh_core.model.engines.typed_graph import typed
    except ModuleNotFoundError as error:
        raise EngineError(f"fp16 needs the package {error.name!r}: pip install onnx") from error
    return typed(graph, "fp16")


def _open(
    onnxruntime: ModuleType, graph: bytes, provider: str, signature: Signature, options: GpuOptions
) -> tuple[Any, bool]:
    """A session, and whether it captures runs."""
    settings = session_options(onnxruntime, 1)
    settings.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        providers = _providers(onnxruntime, settings, provider, signature, options)
        session = onnxruntime.InferenceSession(graph, settings, providers=providers)
    except EngineError:
        raise
    except Exception as error:  # the library's errors have no other common base class
        if options.cuda_graphs:  # for example, if a node runs on the CPU
            _LOG.info("%s cannot capture CUDA graphs: %s", provider, first_line(error))
            again = replace(options, cuda_graphs=False)
            return _open(onnxruntime, graph, provider, signature, again)
        raise EngineError(f"{provider} cannot load it: {first_line(error)}") from error
    return session, options.cuda_graphs


def _providers(
    onnxruntime: ModuleType, settings: Any, provider: str, signature: Signature, options: GpuOptions
) -> list[Any] | None:
    """The session's list of providers; None if the settings already name a plug-in's device."""
    told = provider_options(provider, signature, options)
    if provider != RTX:
        onnxruntime.preload_dlls()  # CUDA's libraries as pip installs them
        rest = [] if provider == CUDA else [(CUDA, provider_options(CUDA, signature, options))]
        return [(provider, told), *rest, "CPUExecutionProvider"]
    plugin = importlib.import_module(_PLUGIN)
    if not any(each.ep_name == RTX for each in onnxruntime.get_ep_devices()):
        onnxruntime.register_execution_provider_library(
            plugin.get_ep_name(), plugin.get_library_path()
        )
    devices = [each for each in onnxruntime.get_ep_devices() if each.ep_name == RTX]
    if not devices:
        raise EngineError(f"{RTX} finds no GPU")
    settings.add_provider_for_devices(devices[:1], told)
    return None
