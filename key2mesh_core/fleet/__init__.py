# SPDX-License-Identifier: Apache-2.0
"""Makes meshes or models of many recordings: in shards or on Ray, on disk or in object storage."""
