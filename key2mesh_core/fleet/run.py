# SPDX-License-Identifier: Apache-2.0
"""Does the jobs of a fleet one after the other, or on Ray; prints a line for each and a summary."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout

from key2mesh_core.fleet.config import FleetOptions
from key2mesh_core.fleet.storage import output_folder
from key2mesh_core.fleet.work import RECORDS, Job, Record, do
from key2mesh_core.meshing.progress import Progress

_SHOWN = 10
"""Largest number of names of a kind in the summary."""


def run(jobs: Sequence[Job], options: FleetOptions, output: str, threads: int, unit: str) -> int:
    """Does the jobs of this shard; returns the exit status, 1 if one failed.

    Args:
        output: folder of the targets: a path or URL.
        threads: cores that a job uses.
        unit: what a job is about, for messages.

    Raises:
        Key2MeshError: the output folder or Ray cannot be used.
    """
    total, begin = len(jobs), time.monotonic()
    jobs = jobs[options.part()]
    output_folder(output).read(f"{RECORDS}/any.json")  # wrong credentials end the run at once
    if options.on_ray:
        from key2mesh_core.fleet.ray_runner import do_on_ray

        records = do_on_ray(jobs, options, output, threads)
    else:
        records = (do(job, output, options.scratch) for job in jobs)
    progress = Progress(len(jobs), unit=unit)
    done: list[Record] = []
    lines = sys.stdout
    try:
        with redirect_stdout(sys.stderr):  # standard output holds JSON lines alone
            for record in records:
                progress.end()
                print(json.dumps(record), file=lines, flush=True)
                done.append(record)
                progress.add(1, record.get("bodies", 0))
    finally:
        progress.end()
        shard = f" (shard {options.shard} of {total})" if options.shard else ""
        title = f"{len(jobs)} {unit}{shard}"
        print(summary(title, done, len(jobs), time.monotonic() - begin), file=sys.stderr)
    return 1 if any(record["state"] == "failed" for record in done) else 0


def summary(title: str, done: Sequence[Record], total: int, seconds: float) -> str:
    """The result of a run in a few lines: how many were made, what was left out, who failed."""
    states = Counter(record["state"] for record in done)
    counts = ", ".join(f"{states[state]} {state}" for state in ("made", "skipped", "failed"))
    text = [f"{title}: {counts} in {seconds:.0f} s"]
    if len(done) < total:
        text.append(f"{total - len(done)} not done: the same command resumes")
    causes: Counter[str] = Counter()
    for record in done:
        causes.update(record.get("left_out", {}))
    if causes:
        counted = ", ".join(f"{count} x {cause}" for cause, count in causes.most_common())
        text.append(f"left out: {counted}")
    doubtful = [record["name"] for record in done if record.get("warnings")]
    if doubtful:
        text.append(f"with warnings: {_listed(doubtful)}")
    adapted = [record for record in done if "adapted" in record]
    if adapted:
        alone = [record["name"] for record in adapted if not record["adapted"]]
        text.append(f"adapted: {len(adapted) - len(alone)}; left alone: {_listed(alone) or 'none'}")
    failed = [record for record in done if record["state"] == "failed"]
    text += [f"failed: {record['name']}: {record['error']}" for record in failed[:_SHOWN]]
    if len(failed) > _SHOWN:
        text.append(f"failed: {len(failed) - _SHOWN} more: see the lines with the state 'failed'")
    return "\n".join(text)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
