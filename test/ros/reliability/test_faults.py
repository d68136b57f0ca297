# SPDX-License-Identifier: Apache-2.0
"""Makes every engine call fail, the 1st, 2nd, 3rd..., in every possible way.

A call while the node is being configured must fail that transition by name, and the next try must
work. A call for a frame must be refused and counted under its cause, and the next frame answered.
"""

import numpy as np
import pytest
from helpers_ros import client, node_here, people, standing

from key2mesh_core.errors import EngineError
from key2mesh_core.model.engines.onnx import OnnxEngine


def raising(error):
    def fail(outputs):
        raise error

    return fail


WAYS = {
    # how it fails: (what becomes of its outputs, how a frame is then counted)
    "engine error": (raising(EngineError("injected")), "engine_failed"),
    "any error": (raising(RuntimeError("injected")), "failed"),
    "out of memory": (raising(MemoryError("injected")), "failed"),
    "NaN": (lambda out: {k: np.full_like(x, np.nan) for k, x in out.items()}, "engine_failed"),
    "infinity": (lambda out: {k: np.full_like(x, np.inf) for k, x in out.items()}, "engine_failed"),
    "another shape": (lambda out: {k: x[..., :-1] for k, x in out.items()}, "engine_failed"),
    "no output": (lambda out: {}, "engine_failed"),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_call_of_an_engine_may_fail(bundle, monkeypatch, amount, way):
    fail, cause = WAYS[way]
    calls, failing, run = 0, 0, OnnxEngine.run

    def run_or_fail(self, *arguments, **options):
        nonlocal calls
        calls += 1
        outputs = run(self, *arguments, **options)
        return fail(outputs) if calls == failing else outputs

    def happened():
        probe.keypoints.publish(people(standing()))
        probe.spin(0.01)
        return calls >= failing

    monkeypatch.setattr(OnnxEngine, "run", run_or_fail)
    configured = {"model": str(bundle), "diagnostics_period": 0.1, "smoothing": True}
    with node_here(**configured), client() as probe:
        for number in range(1, amount(4, 60) + 1):
            calls, failing = 0, number
            if not probe.change_state("configure"):
                assert "configure failed" in probe.fresh_status().message
                assert probe.change_state("configure"), probe.fresh_status().message
            else:
                assert calls < failing, "the node was configured all the same"
            assert probe.change_state("activate")
            if calls < failing:
                probe.wait_for_node()
                probe.fresh_status()
                before = probe.number(f"refused.{cause}")
                probe.wait(happened, f"call {failing}")
                probe.fresh_status()
                assert probe.number(f"refused.{cause}") == before + 1, probe.values
            assert len(probe.exchange(people(standing())).bodies) == 1
            assert probe.change_state("deactivate")
            assert probe.change_state("cleanup")
