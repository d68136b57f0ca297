# SPDX-License-Identifier: Apache-2.0
"""Does the jobs of a fleet one after the other, or on Ray; prints a line for each and a summary."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from key2mesh_core.fleet.config import FleetOptions
from key2mesh_core.fleet.storage import output_folder
from key2mesh_core.fleet.work import RECORDS, Job, Record, do
from key2mesh_core.meshing.progress import Progress


def run(jobs: Sequence[Job], options: FleetOptions, output: str, threads: int, unit: str) -> int:
    """Does the jobs of this shard; returns the exit status, 1 if one failed.

    Args:
        output: folder of the targets: a path or URL.
        threads: cores that a job uses.
        unit: what a job is about, for messages.

    Raises:
        Key2MeshError: the output folder or Ray cannot be used.
    """
    total = len(jobs)
    jobs = jobs[options.part()]
    output_folder(output).read(f"{RECORDS}/any.json")  # wrong credentials end the run at once
    if options.on_ray:
        from key2mesh_core.fleet.ray_runner import do_on_ray

        records = do_on_ray(jobs, options, output, threads)
    else:
        records = _do_here(jobs, options, output)
    begin = time.monotonic()
    progress = Progress(len(jobs), unit=unit)
    states: Counter[str] = Counter()
    causes: Counter[str] = Counter()
    failed = []
    try:
        for record in records:
            progress.end()
            print(json.dumps(record), flush=True)
            states[record["state"]] += 1
            causes.update(record.get("left_out", {}))
            failed += [record] * (record["state"] == "failed")
            progress.add(1, record.get("bodies", 0))
    finally:
        progress.end()
        done = ", ".join(f"{states[s]} {s}" for s in ("made", "skipped", "failed"))
        shard = f" (shard {options.shard} of {total})" if options.shard else ""
        missing = len(jobs) - states.total()
        interrupted = f"; {missing} not done: the same command resumes" if missing else ""
        print(
            f"{len(jobs)} {unit}{shard}: {done} in {time.monotonic() - begin:.0f} s{interrupted}",
            file=sys.stderr,
        )
        if causes:
            counted = ", ".join(f"{count} x {cause}" for cause, count in causes.most_common())
            print(f"left out: {counted}", file=sys.stderr)
        for record in failed[:10]:
            print(f"failed: {record['name']}: {record['error']}", file=sys.stderr)
        if len(failed) > 10:
            print(f"failed: {len(failed) - 10} more: see the lines above", file=sys.stderr)
    return 1 if failed else 0


def _do_here(jobs: Sequence[Job], options: FleetOptions, output: str) -> Iterator[Record]:
    return (do(job, output, options.scratch) for job in jobs)
