# SPDX-License-Identifier: Apache-2.0
"""What was tried on the CPU engine, each beside the engine as it is, in one run.

    python -m benchmarks.engine_options

Sessions are called bare: what the estimator does around them is not in these times.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from benchmarks import graph_variants, machine
from benchmarks.people import camera, difference_mm, people
from benchmarks.timing import SETTLE_S, interleave
from benchmarks.weights import bundled_network
from key2mesh_core.body.files import load_body
from key2mesh_core.body.torch_model import BodyModel
from key2mesh_core.evaluation.tables import markdown_table
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.network.graphs import MeshGraph, PoseGraph

FILE = "engine_options.json"
POSE, MESH, BOTH = "pose graph", "mesh graph", "both graphs"
_POSED = ("betas", "rotations", "translation")

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class OptionsConfig:
    """Measures what was tried on the CPU engine."""

    model: str = "default"
    """The bundle."""
    body: str = "default"
    """Its body file."""
    persons: tuple[int, ...] = (1, 10, 64)
    """Persons in a call."""
    threads: int = 2
    """CPU threads, where nothing else is said."""
    seconds: float = 30.0
    """For each graph and number of persons."""
    rounds: int = 5
    """Turns of each variant."""
    settle_s: float = SETTLE_S
    """Pause before a turn [s]."""
    output: Path = Path(__file__).parent / "out"
    """Folder for engine_options.json and .md."""


@dataclass(frozen=True)
class Variant:
    """A graph and how its session is set; `level` is ONNX Runtime's graph optimisation."""

    name: str
    graph: bytes
    threads: int
    spinning: bool = False
    level: str = "all"
    bound: bool = False
    """Inputs and outputs bound to memory that is used again (IO binding)."""
    other_numbers: bool = False
    """Whether it computes something else, so that its distance from PyTorch is worth looking at."""

    def session(self) -> onnxruntime.InferenceSession:
        """A session with these settings, and otherwise those of our engine."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        level = {"none": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "all": "ORT_ENABLE_ALL"}
        options.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, level[self.level]
        )
        spinning = str(int(self.spinning))
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "4")
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])


def main(config: OptionsConfig) -> dict[str, Any]:
    """Prints the table, writes it and returns the rows."""
    torch.set_num_threads(config.threads)
    bundle, data = load_bundle(config.model), load_body(config.body)
    network = bundled_network(bundle)
    body = BodyModel(data, bundle.card["detector_keypoints"])
    pose = PoseGraph(network, body, bundle.card["centre_view"]).eval()
    mesh = MeshGraph(body).eval()
    parts = {
        POSE: _tried(bundle.pose_path, graph_variants.pose(bundle, pose), config.threads),
        MESH: _tried(bundle.mesh_path, graph_variants.mesh(data, bundle), config.threads),
    }
    rows = []
    for count in config.persons:
        keypoints = people(count)
        intrinsics = np.tile(camera().as_array(), (count, 1))
        with torch.no_grad():
            posed = pose(torch.from_numpy(keypoints), torch.from_numpy(intrinsics))
            vertices = mesh(*posed[:3]).numpy()
        named = zip(_POSED, (each.numpy() for each in posed[:3]), strict=True)
        feeds = {
            POSE: {"keypoints": keypoints, "intrinsics": intrinsics},
            MESH: dict(named),
        }
        for part, tried in parts.items():
            print(f"{part}, {count} persons: about {config.seconds:.0f} s", flush=True)
            calls = {each: _call(each, feeds[part]) for each in tried}
            apart = {
                each: _apart(_vertices(part, calls[each](), mesh, posed[2]), vertices)
                for each in tried
                if each.other_numbers
            }
            rows += _rows(part, count, calls, apart, config)
        print(f"{BOTH}, {count} persons: about {config.seconds:.0f} s", flush=True)
        graphs = bundle.pose_path.read_bytes(), bundle.mesh_path.read_bytes()
        chains = {
            Variant(name, b"", threads, spinning): _chain(graphs, threads, spinning, feeds[POSE])
            for name, threads, spinning in (
                ("as shipped", config.threads, False),
                ("1 thread", 1, False),
                ("threads that spin", config.threads, True),
            )
        }
        rows += _rows(BOTH, count, chains, {}, config)
    result = {"machine": machine.describe(), "rows": rows}
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / FILE).write_text(json.dumps(result, indent=2) + "\n")
    (config.output / FILE).with_suffix(".md").write_text(table(result) + "\n")
    print("\n" + table(result))
    return result


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown, numbers of persons side by side."""
    rows = result["rows"]
    sizes = list(dict.fromkeys(row["persons"] for row in rows))
    header = ["graph", "tried"]
    for size in sizes:
        header += [f"{size}: ms", "shipped"]
    header += ["mm mean", "mm largest"]
    cells = []
    for part, name in dict.fromkeys((row["part"], row["name"]) for row in rows):
        line, apart = [part, name], None
        for size in sizes:
            row = next(
                r for r in rows if (r["part"], r["name"], r["persons"]) == (part, name, size)
            )
            line += [f"{row['timing']['median_ms']:.3f}", f"{row['times_the_shipped']:.2f}x"]
            apart = row["difference_mm"] or apart
        line += ["-", "-"] if apart is None else [f"{apart['mean']:.3f}", f"{apart['largest']:.3f}"]
        cells.append(line)
    return markdown_table(header, cells)


def _tried(path: Path, variants: Mapping[str, bytes], threads: int) -> list[Variant]:
    """The graph as it is in different sessions, and other graphs in the same session."""
    shipped = path.read_bytes()
    return [
        Variant("as shipped", shipped, threads, other_numbers=True),
        *(Variant(name, graph, threads, other_numbers=True) for name, graph in variants.items()),
        Variant("1 thread", shipped, 1),
        Variant("threads that spin", shipped, threads, spinning=True),
        Variant("memory bound (IO binding)", shipped, threads, bound=True),
        Variant("graph optimisation: none", shipped, threads, level="none"),
        Variant("graph optimisation: basic", shipped, threads, level="basic"),
    ]


def _call(variant: Variant, feeds: Arrays) -> Callable[[], dict[str, NDArray[np.float32]]]:
    session = variant.session()
    names = [each.name for each in session.get_outputs()]
    if not variant.bound:
        return lambda: dict(zip(names, session.run(names, dict(feeds)), strict=True))
    binding = session.io_binding()
    outputs = dict(zip(names, session.run(names, dict(feeds)), strict=True))
    inputs = {name: onnxruntime.OrtValue.ortvalue_from_numpy(x) for name, x in feeds.items()}
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(x) for name, x in outputs.items()}
    for name, value in values.items():
        binding.bind_ortvalue_output(name, value)

    def call() -> dict[str, NDArray[np.float32]]:
        # What every frame costs: new inputs go in, results are read where they lie.
        for name, value in inputs.items():
            value.update_inplace(feeds[name])
        session.run_with_iobinding(binding)
        return {name: value.numpy() for name, value in values.items()}

    return call


def _chain(
    graphs: tuple[bytes, bytes], threads: int, spinning: bool, feeds: Arrays
) -> Callable[[], object]:
    first, second = (Variant("", graph, threads, spinning).session() for graph in graphs)

    def call() -> object:
        posed = first.run(_POSED, dict(feeds))
        return second.run(None, dict(zip(_POSED, posed, strict=True)))

    return call


def _vertices(
    part: str, found: Arrays, mesh: MeshGraph, translation: torch.Tensor
) -> NDArray[np.float32]:
    """Vertices (N, V, 3) of what a graph gave; a pose graph's bodies are skinned by PyTorch."""
    if part == MESH:
        return found["vertices"]
    with torch.no_grad():
        return mesh(*(torch.from_numpy(found[name]) for name in _POSED[:2]), translation).numpy()


def _apart(found: NDArray[np.float32], truth: NDArray[np.float32]) -> dict[str, float]:
    """Distance of vertices from PyTorch's [mm]."""
    largest, mean = difference_mm(found, truth)
    return {"largest": largest, "mean": mean}


def _rows(
    part: str,
    count: int,
    calls: Mapping[Variant, Callable[[], object]],
    apart: Mapping[Variant, dict[str, float]],
    config: OptionsConfig,
) -> list[dict[str, Any]]:
    timings = interleave(
        calls, budget_s=config.seconds, rounds=config.rounds, settle_s=config.settle_s
    )
    shipped = next(iter(timings.values())).median_ms
    return [
        {
            "part": part,
            "name": variant.name,
            "persons": count,
            "timing": asdict(timing),
            "times_the_shipped": timing.median_ms / shipped,
            "difference_mm": apart.get(variant),
        }
        for variant, timing in timings.items()
    ]


if __name__ == "__main__":
    import tyro

    main(tyro.cli(OptionsConfig))
