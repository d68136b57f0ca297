# SPDX-License-Identifier: Apache-2.0
"""`key2mesh mesh`: recorded keypoints to body meshes, faster than real time and resumable."""
