# SPDX-License-Identifier: Apache-2.0
"""The GPU benchmark: what of it runs without a GPU, and all of it on stand-ins, where only the
figures mean nothing."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tyro
from helpers_tensorrt import Machine, install, plan_of, standin_library

from benchmarks import gpu, gpu_report
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.model.engines.typed_graph import typed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def machine(monkeypatch):
    found = Machine()
    install(found, monkeypatch)
    monkeypatch.setattr(gpu, "find_library", lambda modules: standin_library(found))

    def build(plan):
        return plan_of(typed(plan.graph, plan.precision))

    monkeypatch.setattr(gpu, "build", build)
    return found


def quick(output: Path, batches=(1,), **options) -> gpu.GpuConfig:
    return gpu.GpuConfig(batches=batches, calls=5, compile=False, output=output, **options)


def test_without_a_gpu_it_says_what_was_not_run_and_fails(tmp_path):
    options = ["--library", "tensorrt_rtx", "--output", str(tmp_path / "results")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Nothing was measured and nothing written" in done.stdout
    for words in ("1, 2, 8, 64, 512", "CUDA graphs", gpu.EAGER, gpu.COMPILED, "training step"):
        assert words in done.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.long
def test_the_whole_of_it_runs_on_stand_ins(machine, tmp_path, capsys):
    assert gpu.main(quick(tmp_path, batches=(1, 2, 9))) == 0
    written = json.loads((tmp_path / "gpu-stand-in-8-6-tensorrt-rtx.json").read_text())
    names = ["engine fp32", "engine fp32, no graphs", "engine fp16", "engine fp16, no graphs"]
    assert [(row["graph"], row["precision"]) for row in written["built"]] == [
        ("pose.onnx", "fp32"),
        ("mesh.onnx", "fp32"),
        ("pose.onnx", "fp16"),
    ]
    found = {(row["contestant"], row["batch"]): row for row in written["parity"]}
    assert set(found) == {(name, batch) for name in names for batch in (1, 2, 9)}
    for (name, _), row in found.items():
        assert 0 < row["mean_mm"] <= row["largest_mm"] <= row["allowed_mm"]
        assert row["allowed_mm"] == (0.1 if "fp32" in name else 1.0)
    timed = {(row["contestant"], row["batch"], row["mesh"]) for row in written["latency"]}
    assert timed >= {(n, batch, mesh) for n in names for batch in (1, 2, 9) for mesh in (0, 1)}
    assert "ONNX Runtime, CUDA" in written["left_out"]
    assert all(1 <= row["calls"] <= 5 for row in written["latency"])
    text = (tmp_path / "gpu-stand-in-8-6-tensorrt-rtx.md").read_text()
    assert text.startswith("# Stand-in (8.6), TensorRT for RTX rtx")
    assert text in capsys.readouterr().out
    gc.collect()
    assert not machine.alive


def test_what_fails_is_named_and_nothing_stands_in_for_it(machine, tmp_path, monkeypatch):
    def build(plan):
        raise Key2MeshError(f"{plan.name}: refused")

    monkeypatch.setattr(gpu, "build", build)
    assert gpu.main(quick(tmp_path, training=False)) == 1
    written = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert written["parity"] == []
    assert written["left_out"]["engine fp32"] == "pose.onnx: refused"
    text = next(tmp_path.glob("*.md")).read_text()
    assert "- engine fp16: pose.onnx: refused" in text
    assert "Distance of vertices" not in text


def test_an_engine_that_is_wrong_fails_the_run(machine, tmp_path, monkeypatch):
    monkeypatch.setitem(gpu.ALLOWED_MM, "fp16", 1e-9)
    assert gpu.main(quick(tmp_path, training=False, precisions=("fp16",))) == 1
    assert "| NO " in next(tmp_path.glob("*.md")).read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--library", "abacus"], "--library must be any, tensorrt or tensorrt_rtx, got 'abacus'"),
        (["--precisions", "fp8"], "--precisions must be some of fp32, fp16"),
        (["--batches", "0"], r"--batches must lie within 1 and 512, got \(0,\)"),
        (["--batches", "1", "513"], "513"),
        (["--calls", "0"], "must be positive, got 0"),
        (["--budget-s", "nan"], "must be positive"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words):
    with pytest.raises(Key2MeshError, match=words):
        tyro.cli(gpu.GpuConfig, args=options)


def test_options_are_read():
    config = tyro.cli(gpu.GpuConfig, args=["--batches", "1", "8", "--no-compile", "--calls", "7"])
    assert (config.batches, config.compile, config.calls) == ((1, 8), False, 7)
    assert gpu.GpuConfig().batches == (1, 2, 8, 64, 512)
    assert gpu.GpuConfig().output == ROOT / "benchmarks" / "results"


def test_percentiles_are_percentiles():
    seconds = list(np.random.default_rng(0).permutation(np.arange(1, 102)) / 1000)
    summary = gpu.summary_ms(seconds)
    assert summary == pytest.approx(
        {"p50_ms": 51, "p90_ms": 91, "p99_ms": 100, "fastest_ms": 1, "calls": 101}
    )


def test_contestants_take_turns_within_their_count():
    said = []
    calls = {name: (lambda name=name: said.append(name)) for name in "ab"}
    seconds = gpu.in_turns(calls, count=10, budget_s=60)
    assert {name: len(each) for name, each in seconds.items()} == {"a": 10, "b": 10}
    assert "".join(said[:9]) == "aaabbbbbb"
    assert len(gpu.in_turns(calls, count=1000, budget_s=1e-9)["a"]) == 5


def test_a_report_holds_the_figures_it_was_given():
    timing = {"median_ms": 12.5}
    text = gpu_report.to_markdown(
        {
            "machine": {
                "processor": "Abacus",
                "cores": 3,
                "python": "3.12",
                "packages": {"torch": "2"},
                "torch_cuda": "12.8",
            },
            "gpu": "Some GPU (9.0)",
            "library": "TensorRT 10.8",
            "built": [
                {"graph": "pose.onnx", "precision": "fp16", "seconds": 31.25, "megabytes": 19.5}
            ],
            "parity": [
                {
                    "contestant": "engine fp16",
                    "batch": 8,
                    "largest_mm": 0.1234,
                    "mean_mm": 0.0123,
                    "allowed_mm": 1.0,
                }
            ],
            "latency": [
                {
                    "contestant": "engine fp16",
                    "batch": 8,
                    "mesh": True,
                    "p50_ms": 0.5,
                    "p90_ms": 0.6,
                    "p99_ms": 0.7,
                    "fastest_ms": 0.4,
                    "calls": 1000,
                }
            ],
            "training": [
                {
                    "precision": "bfloat16",
                    "batch_size": 256,
                    "timings": {"training step": timing},
                    "times_the_bare_network": {"training step": 1.25},
                    "busy": 0.87,
                }
            ],
            "left_out": {"torch.compile": "no compiler"},
        }
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert ["pose.onnx", "fp16", "31.2", "19.5"] in rows
    assert ["engine fp16", "8", "0.1234", "0.0123", "1", "yes"] in rows
    latency = ["engine fp16", "8", "0.500", "0.600", "0.700", "0.400", "62.5", "1000"]
    assert latency in rows
    assert ["training step", "12.50", "1.25"] in rows
    assert "busy 87 % of a step" in text
    assert "- torch.compile: no compiler" in text
    assert "Joints only" not in text
