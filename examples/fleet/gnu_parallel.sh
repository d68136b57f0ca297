#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Meshes of many recordings with GNU parallel, one process per two cores:
#
#   gnu_parallel.sh bags.txt meshes
#
# `parallel --sshloginfile hosts` takes the cores of several machines that share the folders. Run
# the same command again to resume.
set -u
jobs=${JOBS:-$(($(nproc) / 2))}
[ "$jobs" -gt 0 ] || jobs=1

seq 0 $((jobs - 1)) | parallel --jobs "$jobs" --line-buffer \
  key2mesh mesh-all "$1" "$2" --shard "{}/$jobs" --threads 2
