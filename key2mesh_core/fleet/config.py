# SPDX-License-Identifier: Apache-2.0
"""The options of all commands on many recordings, and those of `key2mesh mesh-all`."""

from __future__ import annotations

from dataclasses import dataclass

from key2mesh_core.errors import Key2MeshError
from key2mesh_core.meshing.config import Form, MeshOptions


@dataclass(frozen=True, kw_only=True)
class FleetOptions:
    """Where and how the work on many recordings runs."""

    shard: str = ""
    """Do only part I of N of the work, I/N with I from 0 to N-1, for job arrays."""
    ray: bool = False
    """Run on Ray, on this machine's cores."""
    ray_address: str = ""
    """Run on this Ray cluster: HOST:PORT, ray://HOST:PORT or 'auto'. Every machine must have
    key2mesh, and reach the recordings and the output."""
    workers: int = 0
    """Largest number of recordings at once with --ray; 0: one per `threads` cores."""
    gpus: float = 0.0
    """GPUs of a recording's worker with --ray; 0.25: four workers share one."""
    retries: int = 3
    """With --ray, how often a recording is tried again after its worker died."""
    scratch: str = ""
    """Local folder for unfinished work. By default `_work` in the output folder, or, if that is in
    object storage, the machine's folder for temporary files."""

    def check(self) -> None:
        """Raises Key2MeshError if an option is out of range."""
        self.part()
        for name, least in (("workers", 0), ("gpus", 0), ("retries", 0)):
            if not getattr(self, name) >= least:
                raise Key2MeshError(f"--{name} must be at least {least}, got {getattr(self, name)}")

    @property
    def on_ray(self) -> bool:
        """Whether the work runs on Ray."""
        return self.ray or bool(self.ray_address)

    def part(self) -> slice:
        """The part of the work that `shard` names."""
        if not self.shard:
            return slice(None)
        number, _, count = self.shard.partition("/")
        if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
            raise Key2MeshError(
                f"--shard must be I/N with I from 0 to N-1, such as 0/4 to 3/4, got {self.shard!r}"
            )
        return slice(int(number), None, int(count))


@dataclass(frozen=True, kw_only=True)
class MeshAllConfig(FleetOptions, MeshOptions):
    """Makes body meshes of many recordings, as `key2mesh mesh` does of one.

    Prints one JSON line per recording and leaves it in OUTPUT/_records; skips what is already made.
    The exit status is 1 if a recording failed. The other options apply to every recording; a
    manifest may override them for one. docs/fleet.md describes manifests.
    """

    recordings: str
    """A manifest (.txt, .json or .jsonl), a pattern ('bags/*/*.mcap'), or a folder of recordings; a
    path or a URL (s3://, gs://, file://)."""
    output: str
    """Folder of the meshes: a path or a URL."""
    form: Form = "npz"
    """Output format; auto: bag for a bag and obj for other recordings."""

    def __post_init__(self) -> None:
        self.check()
        super().__post_init__()
