# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.gpu`: compares the engine on an NVIDIA GPU with PyTorch on the same GPU.

One command on one machine: builds the engines, compares their vertices with PyTorch's in
millimetres, measures latency from arrays of the host to arrays of the host, with and without
recorded CUDA graphs, and PyTorch eager and compiled in turns with them; then a training step.
Writes a Markdown and a JSON file named after the GPU. Names whatever cannot run here, with the
reason; without a GPU, nothing is measured and the exit status is 1.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import gpu_report, machine
from benchmarks.people import Answer, camera, difference_mm, people
from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.cli.build_engine import ALLOWED_MM
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.model.bundle import POSE_SIGNATURE, Bundle, load_bundle, mesh_signature
from key2mesh_core.model.engines.cuda import open_gpu
from key2mesh_core.model.engines.engine_cache import EngineCache
from key2mesh_core.model.engines.onnx_gpu import GpuOptions, OnnxGpuEngine
from key2mesh_core.model.engines.protocol import Engine
from key2mesh_core.model.engines.tensorrt import RECORDED, open_engines
from key2mesh_core.model.engines.tensorrt_build import (
    MODULES,
    PERSONS,
    Library,
    build,
    find_library,
    plans,
)
from key2mesh_core.network.graphs import MeshGraph, PoseGraph
from key2mesh_core.network.weights import load_network

EAGER, COMPILED = "PyTorch eager", "torch.compile, max-autotune"
PERCENTILES = (50, 90, 99)
_ROUNDS = 5  # methods alternate, because a GPU's clock drifts


@dataclass(frozen=True)
class GpuConfig:
    """Measures the engine and PyTorch on this machine's GPU."""

    model: str = "default"
    """The bundle."""
    body: str = "default"
    """The body file that the bundle was made with."""
    library: str = "any"
    """tensorrt, tensorrt_rtx, or 'any' for the first that is installed."""
    precisions: tuple[str, ...] = ("fp32", "fp16")
    """Precisions to build."""
    batches: tuple[int, ...] = (1, 2, 8, 64, 512)
    """Batch sizes."""
    calls: int = 1000
    """Measured calls per method and batch, fewer if they would exceed `budget_s`."""
    budget_s: float = 5.0
    """Seconds per method and batch."""
    compile: bool = True
    """Also measure torch.compile, which takes minutes to compile."""
    training: bool = True
    """Also measure a training step."""
    output: Path = Path(__file__).parent / "results"
    """Folder for the two files."""

    def __post_init__(self) -> None:
        if self.library not in ("any", *MODULES):
            raise Key2MeshError(
                f"--library must be any, {' or '.join(MODULES)}, got {self.library!r}"
            )
        unknown = set(self.precisions) - set(ALLOWED_MM)
        if unknown or not self.precisions:
            raise Key2MeshError(
                f"--precisions must be some of {', '.join(ALLOWED_MM)}, got {self.precisions}"
            )
        if not self.batches or not all(1 <= each <= PERSONS[-1] for each in self.batches):
            raise Key2MeshError(
                f"--batches must lie within 1 and {PERSONS[-1]}, got {self.batches}"
            )
        if self.calls < 1 or not self.budget_s > 0:
            raise Key2MeshError(
                f"--calls and --budget-s must be positive, got {self.calls}, {self.budget_s}"
            )


@dataclass
class Results:
    """What was measured; as JSON, the file that is written."""

    machine: dict[str, Any]
    gpu: str
    library: str
    built: list[dict[str, Any]] = field(default_factory=list)
    parity: list[dict[str, Any]] = field(default_factory=list)
    latency: list[dict[str, Any]] = field(default_factory=list)
    training: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def main(config: GpuConfig) -> int:
    """Measures and writes; returns 1 if there is no GPU or an engine's results are wrong."""
    try:
        gpu = open_gpu().name
        library = find_library(MODULES if config.library == "any" else (config.library,))
    except Key2MeshError as error:
        batches = ", ".join(map(str, config.batches))
        print(
            f"{error}\nNothing was measured and nothing written. Not run: building, parity and "
            f"latency at batches {batches} with and without CUDA graphs, {EAGER}, {COMPILED}, and "
            "the training step."
        )
        return 1
    results = Results(machine.describe(), gpu, str(library))
    results.machine["packages"][library.name] = library.version
    results.machine["torch_cuda"] = torch.version.cuda
    bundle = load_bundle(config.model)
    with ExitStack() as opened:
        contestants = _engines(config, bundle, library, results, opened)
        contestants |= _onnx_runtime(bundle, results, opened)
        _parity(config, bundle, contestants, results)
        contestants |= _pytorch(config, bundle, results)
        _latency(config, contestants, results)
    if config.training:
        _training(config, results)
    name = "gpu-" + re.sub(r"[^a-z0-9]+", "-", f"{gpu} {library.name}".lower()).strip("-")
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / f"{name}.json").write_text(json.dumps(vars(results), indent=2) + "\n")
    text = gpu_report.to_markdown(vars(results))
    (config.output / f"{name}.md").write_text(text)
    print(f"{text}\nwritten to {config.output / name}.md and .json")
    wrong = [row for row in results.parity if not row["largest_mm"] <= row["allowed_mm"]]
    return 1 if wrong or not results.parity else 0


def _engines(
    config: GpuConfig, bundle: Bundle, library: Library, results: Results, opened: ExitStack
) -> dict[str, Answer]:
    """Built in a folder of their own, so that building is measured as well."""
    cache = EngineCache(Path(opened.enter_context(tempfile.TemporaryDirectory())) / "engines")
    found: dict[str, Answer] = {}
    for precision in config.precisions:
        try:
            for plan in plans(bundle, library, results.gpu, precision):
                if cache.read(plan.file()) is None:
                    start = time.perf_counter()
                    content = build(plan)
                    took = time.perf_counter() - start
                    cache.write(plan.file(), content)
                    row = {"graph": plan.name, "precision": plan.precision}
                    row |= {"seconds": took, "megabytes": len(content) / 1e6}
                    results.built.append(row)
            for recorded in (RECORDED, 0):
                start = time.perf_counter()
                options = {"precision": precision, "recorded": recorded}
                engines = open_engines(bundle, library, cache, **options)
                took = time.perf_counter() - start
                for engine in engines:
                    opened.callback(engine.close)
                name = engine_name(precision, recorded > 0)
                found[name] = _engine_answer(*engines)
                print(f"{name}: opened in {took:.1f} s, {engines[0].device}", flush=True)
        except Key2MeshError as error:
            results.left_out[f"engine {precision}"] = str(error)
    return found


def _onnx_runtime(bundle: Bundle, results: Results, opened: ExitStack) -> dict[str, Answer]:
    """ONNX Runtime's providers for NVIDIA: TensorRT's, in whichever form is here, and CUDA's."""
    found: dict[str, Answer] = {}
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    signatures = (POSE_SIGNATURE, mesh_signature(bundle.vertex_count))
    without = GpuOptions(compile=False)
    asked = {"TensorRT": GpuOptions(cache=folder), "CUDA": replace(without, cuda_graphs=True)}
    for name, options in (asked | {"CUDA, no graphs": without}).items():
        try:
            engines = []
            paths = (bundle.pose_path, bundle.mesh_path)
            for path, signature in zip(paths, signatures, strict=True):
                engines.append(OnnxGpuEngine(path, signature, options))
                opened.callback(engines[-1].close)
            found[f"onnxruntime fp32, {name}"] = _engine_answer(*engines)
        except Key2MeshError as error:
            results.left_out[f"ONNX Runtime, {name}"] = str(error)
    return found


def engine_name(precision: str, graphs: bool) -> str:
    """As it stands in the tables."""
    return f"engine {precision}{'' if graphs else ', no graphs'}"


def _engine_answer(pose: Engine, mesh: Engine) -> Answer:
    intrinsics, signature = camera().as_array(), mesh_signature(0)

    def answer(keypoints: NDArray[np.float32], with_mesh: bool) -> NDArray[np.float32]:
        cameras = np.tile(intrinsics, (len(keypoints), 1)).astype(np.float32)
        posed = pose.run(dict(zip(POSE_SIGNATURE.inputs, (keypoints, cameras), strict=True)))
        if not with_mesh:
            return posed["joints"]
        return mesh.run({name: posed[name] for name in signature.inputs})["vertices"]

    return answer


def _modules(config: GpuConfig, bundle: Bundle) -> tuple[PoseGraph, MeshGraph]:
    """What the bundle's graphs were exported from."""
    data, card = load_body(config.body), bundle.card
    if data.identifier != bundle.body_model:
        raise Key2MeshError(f"{config.body} is {data.identifier}, not {bundle.body_model}")
    body = BodyModel(data, card["detector_keypoints"])
    network = load_network(bundle)
    return PoseGraph(network, body, card["centre_view"]).eval(), MeshGraph(body).eval()


def _torch_answer(pose: Any, mesh: Any, device: str) -> Answer:
    intrinsics = torch.from_numpy(camera().as_array()).to(device)

    @torch.inference_mode()
    def answer(keypoints: NDArray[np.float32], with_mesh: bool) -> NDArray[np.float32]:
        cameras = intrinsics.expand(len(keypoints), 4).contiguous()
        found = pose(torch.from_numpy(keypoints).to(device), cameras)
        posed = dict(zip(POSE_SIGNATURE.outputs, found, strict=True))
        if not with_mesh:
            return posed["joints"].cpu().numpy()
        names = mesh_signature(0).inputs
        return mesh(*(posed[name] for name in names)).cpu().numpy()

    return answer


def _parity(
    config: GpuConfig, bundle: Bundle, contestants: dict[str, Answer], results: Results
) -> None:
    """Against PyTorch on the CPU in 32-bit floats: no TF32, and no GPU library in common."""
    reference = _torch_answer(*_modules(config, bundle), "cpu")
    for batch in config.batches:
        keypoints = people(batch)
        expected = reference(keypoints, True)
        for name, answer in contestants.items():
            precision = name.split()[1].rstrip(",")
            try:
                largest, mean = difference_mm(answer(keypoints, True), expected)
            except Key2MeshError as error:
                results.left_out[f"parity of {name} at {batch}"] = str(error)
                continue
            row = {"contestant": name, "batch": batch, "largest_mm": largest, "mean_mm": mean}
            results.parity.append(row | {"allowed_mm": ALLOWED_MM[precision]})


def _pytorch(config: GpuConfig, bundle: Bundle, results: Results) -> dict[str, Answer]:
    if not torch.cuda.is_available():
        results.left_out[f"{EAGER}, {COMPILED}"] = f"PyTorch {torch.__version__} finds no GPU"
        return {}
    torch.backends.cuda.matmul.allow_tf32 = False
    pose, mesh = (each.to("cuda") for each in _modules(config, bundle))
    found = {EAGER: _torch_answer(pose, mesh, "cuda")}
    if config.compile:
        options = {"mode": "max-autotune", "dynamic": False}
        compiled = (torch.compile(each, **options) for each in (pose, mesh))
        found[COMPILED] = _torch_answer(*compiled, "cuda")
    return found


def _latency(config: GpuConfig, contestants: dict[str, Answer], results: Results) -> None:
    for batch in config.batches:
        keypoints = people(batch)
        for mesh in (True, False):
            calls = {}
            for name, answer in contestants.items():
                try:
                    for _ in range(3):  # what is compiled is compiled now
                        answer(keypoints, mesh)
                # A failing compiler must not prevent the other measurements.
                except Exception as error:
                    reason = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
                    results.left_out[f"{name} at {batch}, {'mesh' if mesh else 'joints'}"] = reason
                else:
                    calls[name] = lambda answer=answer: answer(keypoints, mesh)  # noqa: B023
            for name, seconds in in_turns(calls, config.calls, config.budget_s).items():
                results.latency.append(
                    {"contestant": name, "batch": batch, "mesh": mesh, **summary_ms(seconds)}
                )
        print(f"measured: {batch} persons", flush=True)


def in_turns(
    calls: dict[str, Callable[[], object]], count: int, budget_s: float
) -> dict[str, list[float]]:
    """Seconds of each call; methods alternate, each with at most `count` calls and `budget_s`."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(_ROUNDS):
        for name in calls if turn % 2 == 0 else reversed(calls):
            call, end = calls[name], time.perf_counter() + budget_s / _ROUNDS
            call()  # the first after another's turn
            for _ in range(-(-count // _ROUNDS)):
                start = time.perf_counter()
                call()
                stop = time.perf_counter()
                seconds[name].append(stop - start)
                if stop > end:
                    break
    return seconds


def summary_ms(seconds: list[float]) -> dict[str, float]:
    """Percentiles [ms], the fastest, and how many calls were measured."""
    values = np.percentile(np.asarray(seconds) * 1e3, PERCENTILES)
    return {
        **{f"p{each}_ms": float(x) for each, x in zip(PERCENTILES, values, strict=True)},
        "fastest_ms": 1e3 * min(seconds),
        "calls": len(seconds),
    }


def _training(config: GpuConfig, results: Results) -> None:
    if not torch.cuda.is_available():
        results.left_out["training step"] = f"PyTorch {torch.__version__} finds no GPU"
        return
    from benchmarks import training_step

    for precision in ("float32", "bfloat16"):
        try:
            found = training_step.run(config.body, precision=precision, device="cuda")
            results.training.append(found)
        except (Key2MeshError, RuntimeError) as error:
            results.left_out[f"training step, {precision}"] = str(error).splitlines()[0]


if __name__ == "__main__":
    import tyro

    try:
        sys.exit(main(tyro.cli(GpuConfig)))
    except Key2MeshError as error:
        sys.exit(f"benchmarks.gpu: {error}")
