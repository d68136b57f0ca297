# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.fleet`: what many recordings cost; writes benchmarks/out/fleet.json.

Measures, in one run: where the time of a recording goes; the fixed cost of a recording; the
throughput of 2 Ray workers against 1, in turns; and the memory of each worker over many recordings.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from benchmarks import machine
from key2mesh_core.fleet.config import FleetOptions
from key2mesh_core.fleet.mesh_all import MeshJob
from key2mesh_core.fleet.ray_runner import do_on_ray
from key2mesh_core.fleet.work import do
from key2mesh_core.meshing.config import MeshConfig, MeshOptions
from key2mesh_core.meshing.job import make_meshes, opened
from key2mesh_core.meshing.maker import MeshMaker, batches
from key2mesh_core.model.bundle import load_bundle
from key2mesh_core.model.estimator import Estimator
from key2mesh_core.recordings.open import open_recording

STREET = Path(__file__).parents[1] / "demo" / "data" / "street"

Part = Literal["stages", "fixed_cost", "throughput", "memory"]


@dataclass(frozen=True)
class FleetBenchmark:
    """Measures what many recordings cost on this machine."""

    only: tuple[Part, ...] = ("stages", "fixed_cost", "throughput", "memory")
    """Parts to run."""
    recording: Path = STREET
    """The recording that is done again and again."""
    count: int = 500
    """Number of recordings for the memory of a worker."""
    turns: int = 3
    """Turns of each number of workers."""
    per_turn: int = 40
    """Number of recordings of a turn."""
    form: str = "npz"
    """Output format of the throughput and memory measurements."""
    output: Path = Path(__file__).parent / "out" / "fleet.json"
    """File to write."""


def main(config: FleetBenchmark) -> dict[str, Any]:
    """Runs every measurement and prints the results."""
    results: dict[str, Any] = {"machine": machine.describe()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {each.__name__: each for each in (stages, fixed_cost, throughput, memory)}
        for part in config.only:
            results[part] = parts[part](config, folder)
            print(part, json.dumps(results[part]), flush=True)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_text(json.dumps(results, indent=2) + "\n")
    return results


def stages(config: FleetBenchmark, folder: Path) -> dict[str, Any]:
    """Seconds of one core for each stage of the recording, the median of the turns."""
    source, estimator = str(config.recording), Estimator(load_bundle(), "onnx", 1)

    def read() -> None:
        for _ in open_recording(source):
            pass

    def estimate(vertices: bool) -> None:
        maker = MeshMaker(estimator, vertices)
        for batch in batches(open_recording(source), lambda frame: (len(frame), 1, 0)):
            maker.make(batch)

    def write(form: str, vertices: bool) -> None:
        target = folder / ("stage" + {"npz": ".npz", "parquet": ".parquet"}.get(form, ""))
        options = MeshConfig(source, target, form=form, vertices=vertices, threads=1)
        recording, form = opened(options)
        with (folder / "console").open("w") as console:
            summary = make_meshes(options, recording, form, estimator, console)
        files = [target] if target.is_file() else list(target.iterdir())
        found[name] |= {"bytes": sum(p.stat().st_size for p in files), **asdict(summary)}
        shutil.rmtree(target, ignore_errors=True)
        target.unlink(missing_ok=True)

    work: dict[str, Callable[[], None]] = {
        "read": read,
        "read, poses": lambda: estimate(False),
        "read, poses, vertices": lambda: estimate(True),
        "npz without vertices": lambda: write("npz", False),
        "npz": lambda: write("npz", True),
        "parquet": lambda: write("parquet", True),
        "bag": lambda: write("bag", True),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    found: dict[str, dict[str, Any]] = {name: {} for name in work}
    for _ in range(config.turns + 1):
        for name, call in work.items():
            begin = time.process_time(), time.perf_counter()
            call()
            times[name].append(time.process_time() - begin[0])
            found[name].setdefault("wall", []).append(time.perf_counter() - begin[1])
    estimator.close()
    facts = found["npz"]
    return {
        "frames": facts["frames"],
        "bodies": facts["bodies"],
        "recorded_s": facts["recorded_s"],
        "cpu_s": {name: round(statistics.median(t[1:]), 4) for name, t in times.items()},
        "wall_s": {n: round(statistics.median(f["wall"][1:]), 4) for n, f in found.items()},
        "bytes": {name: f["bytes"] for name, f in found.items() if "bytes" in f},
    }


def fixed_cost(config: FleetBenchmark, folder: Path) -> dict[str, float]:
    """Seconds of a recording of one image, and of a recording that is skipped."""
    source = folder / "one.npz"
    frame = next(frame for frame in open_recording(str(config.recording)) if len(frame))
    import numpy as np

    np.savez(
        source,
        keypoints=frame.keypoints[:1, :18],
        layout="openpose_coco_18",
        width=frame.width,
        height=frame.height,
    )
    jobs = [replace(job, source=str(source)) for job in _jobs(config, config.per_turn)]
    out = str(folder / "fixed")
    do(replace(jobs[0], name="first"), out)  # loads the engine
    result = {}
    for name in ("made", "skipped"):
        begin = time.perf_counter()
        states = {do(job, out)["state"] for job in jobs}
        result[name] = round((time.perf_counter() - begin) / len(jobs), 4)
        assert states == {name}, states
    return result


def throughput(config: FleetBenchmark, folder: Path) -> dict[str, Any]:
    """Recordings per second of the local command and of 1 and 2 workers of one Ray cluster, in
    turns, and CPU seconds of a worker per recording, which other work on the machine hardly
    changes; the ratios of each turn."""
    rates: dict[str, list[float]] = {"local": [], "1": [], "2": []}
    cpu: dict[str, list[float]] = {name: [] for name in rates}
    with _cluster(cores=2) as address:
        for turn in range(config.turns):
            for workers in rates:
                out = folder / f"{turn}_{workers}"
                jobs = _jobs(config, config.per_turn)
                if workers == "local":
                    records = (do(job, str(out)) for job in jobs)
                else:
                    options = FleetOptions(ray_address=address, workers=int(workers))
                    records = do_on_ray(jobs, options, str(out), 1)
                ends, used = [], defaultdict(list)
                for record in records:
                    assert record["state"] == "made", record
                    ends.append(time.perf_counter())
                    process = int(record["worker"].rpartition(":")[2])
                    used[process].append(_cpu_s(process))
                # The first ones load the engines.
                rates[workers].append((len(ends) - 5) / (ends[-1] - ends[4]))
                steps = sum(len(times) - 2 for times in used.values())
                cpu[workers].append(sum(times[-1] - times[1] for times in used.values()) / steps)
                shutil.rmtree(out)
    ratios = [two / one for one, two in zip(rates["1"], rates["2"], strict=True)]
    ray = [one / local for local, one in zip(rates["local"], rates["1"], strict=True)]
    return {
        "recordings_per_s": {n: [round(r, 3) for r in rate] for n, rate in rates.items()},
        "two_workers_to_one": [round(ratio, 2) for ratio in ratios],
        "cpu_s_per_recording": {n: [round(c, 3) for c in each] for n, each in cpu.items()},
        "one_worker_to_local": [round(ratio, 2) for ratio in ray],
    }


def _cpu_s(process: int) -> float:
    """CPU time that a process has used [s]."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _cluster(cores: int) -> Iterator[str]:
    """A Ray cluster on this machine; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    program += [f"--port={port}", f"--num-cpus={cores}", "--include-dashboard=false"]
    program += ["--node-ip-address=127.0.0.1", "--disable-usage-stats"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    os.environ["RAY_AUTH_MODE"] = "disabled"  # for a cluster of some minutes on this machine
    process = subprocess.Popen(program, **silent)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.2)
        time.sleep(5)  # until the machine has joined its cluster
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def memory(config: FleetBenchmark, folder: Path) -> dict[str, Any]:
    """Resident memory [MiB] of each of two workers after every tenth of its recordings."""
    options = FleetOptions(ray=True, workers=2)
    found: dict[str, list[float]] = {}
    out = folder / "memory"
    for record in do_on_ray(_jobs(config, config.count), options, str(out), 1):
        assert record["state"] == "made", record
        (out / Path(record["target"]).name).unlink()  # the disk is not what is measured
        status = Path(f"/proc/{record['worker'].rpartition(':')[2]}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
        found.setdefault(record["worker"], []).append(int(line.split()[1]) / 1024)
    result: dict[str, Any] = {}
    for number, sizes in enumerate(found.values()):
        marks = [round(n * (len(sizes) - 1) / 10) for n in range(11)]
        result[f"worker {number}"] = {
            "recordings": len(sizes),
            "mib": [round(sizes[mark]) for mark in marks],
            "growth_mib": round(sizes[-1] - sizes[marks[1]], 1),
            "largest_step_mib": round(max((b - a for a, b in pairwise(sizes[5:])), default=0), 1),
        }
    return result


def _jobs(config: FleetBenchmark, count: int) -> list[MeshJob]:
    options = MeshOptions(form=config.form, threads=1, backend="onnx")
    return [MeshJob(f"r{n:05d}", str(config.recording), options) for n in range(count)]


if __name__ == "__main__":
    import tyro

    main(tyro.cli(FleetBenchmark))
