# SPDX-License-Identifier: Apache-2.0
"""Writes bodies as a Parquet file, one row per body."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from key2mesh_core.meshing.arrays import PART, read_rows, tracks_of
from key2mesh_core.model.bundle import Bundle


def write_parquet(parts: Sequence[Path], target: Path, bundle: Bundle) -> None:
    """Writes all parts as one Parquet file, a row group for each part.

    The columns are the arrays of the npz form. Those with more than one number per body are
    fixed-size lists in C order, whose shape is in the field's metadata as JSON ("shape"). The
    file's metadata holds `body_model`, and `triangles` as little-endian int32 (F, 3).

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows = read_rows(parts)
    tracks, first = tracks_of(rows), 0
    metadata = {
        "body_model": bundle.body_model,
        "triangles": np.ascontiguousarray(bundle.triangles, "<i4").tobytes(),
    }
    writer = None
    try:
        for part in parts:
            with np.load(part / PART) as file:
                columns = {name: file[name] for name in file.files}
            count = len(columns["frame"])
            columns["track"] = tracks[first : first + count]
            first += count
            fields, values = [], []
            for name, column in columns.items():
                inner = pa.from_numpy_dtype(column.dtype)
                array = pa.array(column.ravel(), inner)
                described = None
                if column.ndim > 1:
                    width = int(np.prod(column.shape[1:]))
                    array = pa.FixedSizeListArray.from_arrays(array, width)
                    described = {"shape": str(list(column.shape[1:]))}
                fields.append(pa.field(name, array.type, nullable=False, metadata=described))
                values.append(array)
            schema = pa.schema(fields, metadata)
            if writer is None:
                strings = ["stream", "id"]  # numbers hardly repeat
                writer = parquet.ParquetWriter(target, schema, use_dictionary=strings)
            writer.write_table(pa.Table.from_arrays(values, schema=writer.schema))
    finally:
        if writer is not None:
            writer.close()
