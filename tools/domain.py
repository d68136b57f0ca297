# SPDX-License-Identifier: Apache-2.0
"""Claims a ROS domain, so that demos, tests and benchmarks on one machine do not hear one
another."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import MutableMapping

# Above 101, a domain's ports may collide with the operating system's ephemeral ports.
_DOMAINS = range(1, 102)
_claims: list[int] = []  # open file descriptors: a claim lasts as long as the process


def claim_domain(environment: MutableMapping[str, str] = os.environ) -> int:
    """Set ROS_DOMAIN_ID to a domain that no other process has claimed, and restrict discovery to
    this machine.

    A lock on a file holds the claim until this process ends. ROS_DOMAIN_ID and
    ROS_AUTOMATIC_DISCOVERY_RANGE are kept if they are set. Returns the domain.

    Raises:
        RuntimeError: every domain is claimed.
    """
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if environment.get("ROS_DOMAIN_ID"):
        return int(environment["ROS_DOMAIN_ID"])
    first = os.getpid() % len(_DOMAINS)
    for domain in (*_DOMAINS[first:], *_DOMAINS[:first]):
        path = os.path.join(tempfile.gettempdir(), f"key2mesh_ros_domain_{domain}.lock")
        try:
            claim = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            continue  # another user's file
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(claim)
            continue
        _claims.append(claim)
        environment["ROS_DOMAIN_ID"] = str(domain)
        return domain
    raise RuntimeError(
        f"each of the ROS domains {_DOMAINS[0]} to {_DOMAINS[-1]} is claimed by another process: "
        "set ROS_DOMAIN_ID"
    )
