# SPDX-License-Identifier: Apache-2.0
"""Bodies as Parquet: pyarrow and pandas read what the npz form holds."""

from __future__ import annotations

import json

import numpy as np
import pandas
import pyarrow.dataset
from helpers_fleet import walking, write_recording
from pyarrow import parquet

from key2mesh_core.cli.main import main
from key2mesh_core.meshing import maker


def test_pyarrow_and_pandas_read_a_row_for_each_body(tmp_path, bundle, monkeypatch):
    monkeypatch.setattr(maker, "BATCH_PERSONS", 5)  # several row groups
    for name, count in (("one", 20), ("two", 31)):
        write_recording(tmp_path / "bags" / name, "mcap", walking(count))
        source, npz = str(tmp_path / "bags" / name), str(tmp_path / f"{name}.npz")
        assert main(["mesh", source, npz, "--model", bundle]) == 0
    words = ["mesh-all", str(tmp_path / "bags"), str(tmp_path / "out"), "--form", "parquet"]
    assert main([*words, "--model", bundle]) == 0
    # As a data set: the partition is a column, and the records are in nobody's way.
    found = pyarrow.dataset.dataset(tmp_path / "out", partitioning="hive").to_table()
    frame = pandas.read_parquet(tmp_path / "out")
    assert len(frame) == found.num_rows
    schema = found.schema
    for name in ("one", "two"):
        rows = frame[frame["recording"] == name]
        table = found.filter(pyarrow.compute.field("recording") == name)
        with np.load(tmp_path / f"{name}.npz") as npz:
            bodies = [key for key in npz.files if key not in ("triangles", "body_model")]
            assert {*bodies, "recording"} == set(schema.names) == set(frame.columns)
            for key in bodies:
                for column in (rows[key].to_numpy(), table[key].to_numpy()):
                    if npz[key].ndim > 1:
                        column = np.stack(column)
                        shape = json.loads(schema.field(key).metadata[b"shape"])
                        assert shape == list(npz[key].shape[1:])
                        column = column.reshape(-1, *shape)
                    np.testing.assert_array_equal(column, npz[key])
            file = parquet.ParquetFile(tmp_path / "out" / f"recording={name}" / "bodies.parquet")
            assert file.num_row_groups > 2
            metadata = file.schema_arrow.metadata
            assert metadata[b"body_model"].decode() == npz["body_model"]
            triangles = np.frombuffer(metadata[b"triangles"], "<i4").reshape(-1, 3)
            np.testing.assert_array_equal(triangles, npz["triangles"])


def test_one_recording_becomes_one_file(tmp_path, bundle):
    source = write_recording(tmp_path / "bag", "mcap", walking(9))
    target = tmp_path / "people.parquet"
    assert main(["mesh", str(source), str(target), "--model", bundle, "--no-vertices"]) == 0
    assert "vertices" not in pandas.read_parquet(target).columns
