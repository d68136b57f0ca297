# SPDX-License-Identifier: Apache-2.0
"""Does the jobs of a fleet on Ray: one task each, tried again if its worker dies."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence

from key2mesh_core.errors import Key2MeshError
from key2mesh_core.fleet.config import FleetOptions
from key2mesh_core.fleet.work import Job, Record, do, gave_up

_QUEUED = 2
"""Tasks that wait for each core, so that none is idle and the queue stays short."""

_CONNECT_S = 10.0
"""How long to wait for a cluster to answer [s]."""

_STORE_BYTES = 128 << 20
"""Ray's object store on this machine; jobs and records are small."""


def do_on_ray(
    jobs: Sequence[Job], options: FleetOptions, output: str, threads: int
) -> Iterator[Record]:
    """The jobs' records, in the order in which they are done.

    Ray runs as many tasks as there are free cores (`threads` each), and starts a task again on
    another worker if its worker dies. A worker process lives on from task to task, with its engine.

    Raises:
        Key2MeshError: Ray is not installed, or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage data
    # On a busy machine, Ray's own processes take longer to start than it waits by default.
    os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
    # Without it, a recording that needs too much memory would be tried again for ever.
    os.environ.setdefault("RAY_task_oom_retries", str(options.retries))
    try:
        import ray
        from ray.exceptions import RayError
    except ModuleNotFoundError as error:
        raise Key2MeshError("--ray needs the package ray: pip install 'key2mesh[ray]'") from error
    # Standard output holds JSON lines alone; errors are in the records.
    silent = {"logging_level": "error", "log_to_driver": False}
    try:
        if options.ray_address:
            _refuse_unreachable(options.ray_address)
            ray.init(options.ray_address, **silent)
        else:
            cores = options.workers * threads or os.cpu_count()
            local = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
            ray.init("local", num_cpus=max(cores, threads), **local, **silent)
    except Exception as error:  # Ray raises a bare Exception if it starts too slowly
        raise Key2MeshError(f"Ray cannot be used: {error}") from error
    try:
        task = ray.remote(num_cpus=threads, num_gpus=options.gpus, max_retries=options.retries)(do)
        waiting, running = iter(jobs), {}
        most = options.workers or _QUEUED * max(1, int(ray.cluster_resources().get("CPU", 1)))
        while True:
            while len(running) < most and (job := next(waiting, None)) is not None:
                running[task.remote(job, output, options.scratch)] = job
            if not running:
                return
            (done,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(done)
            try:
                yield ray.get(done)
            except RayError as error:
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                yield gave_up(job, output, f"not done in {options.retries + 1} tries: {reason}")
    finally:
        ray.shutdown()


def _refuse_unreachable(address: str) -> None:
    """Raises OSError if nobody listens at HOST:PORT; Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), _CONNECT_S).close()
