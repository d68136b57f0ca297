#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Meshes of many recordings as a Slurm job array:
#
#   sbatch slurm.sh bags.txt s3://my-bucket/meshes
#
# Each task does its share of the manifest. Run the same command again to resume: what is complete
# is skipped, and failed recordings are tried again.
#SBATCH --job-name=key2mesh
#SBATCH --array=0-99
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --requeue
#SBATCH --output=key2mesh_%a.jsonl
#SBATCH --error=key2mesh_%a.log

exec key2mesh mesh-all "$1" "$2" \
  --shard "$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN))/$SLURM_ARRAY_TASK_COUNT" \
  --threads "${SLURM_CPUS_PER_TASK:-2}" --scratch "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}"
