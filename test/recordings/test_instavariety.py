# SPDX-License-Identifier: Apache-2.0
"""InstaVariety's TFRecords, written by Google's protobuf."""

import struct

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from key2mesh_core.errors import TargetError
from key2mesh_core.recordings.open import open_recording


def example_class():
    """tf.train.Example, from its published definition (tensorflow/core/example)."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for number, (field, kind, of, many) in enumerate(fields, 1):
            label = kinds.LABEL_REPEATED if many else kinds.LABEL_OPTIONAL
            made.field.add(name=field, number=number, type=kind, type_name=of, label=label)
        return made

    message("BytesList", ("value", kinds.TYPE_BYTES, None, True))
    message("FloatList", ("value", kinds.TYPE_FLOAT, None, True))
    message("Int64List", ("value", kinds.TYPE_INT64, None, True))
    message(
        "Feature",
        *((f"{n}_list", kinds.TYPE_MESSAGE, f".tf.{n.title()}List", False)
          for n in ("bytes", "float", "int64")),
    )  # fmt: skip
    entry = message(
        "Entry", ("key", kinds.TYPE_STRING, None, False),
        ("value", kinds.TYPE_MESSAGE, ".tf.Feature", False),
    )  # fmt: skip
    features = message("Features", ("feature", kinds.TYPE_MESSAGE, ".tf.Features.Entry", True))
    entry.options.map_entry = True
    features.nested_type.add().CopyFrom(entry)
    del file.message_type[4]
    message("Example", ("features", kinds.TYPE_MESSAGE, ".tf.Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


def write(path, videos, preprocessed=True, **changes):
    """Videos of (N, 25, 3) keypoints as a TFRecord file, images included."""
    example_type = example_class()
    content = b""
    for keypoints in videos:
        made, count = example_type(), len(keypoints)
        points = keypoints.transpose(0, 2, 1).astype(np.float32)
        entries = {
            "meta/N": [count],
            "image/heightwidths": [1280, 720],
            "image/xys": points[:, :2, :14].ravel(),
            "image/visibilities": points[:, 2, :14].astype(int).ravel(),
            "image/face_pts": points[:, :, 14:19].ravel(),
            "image/toe_pts": points[:, :, 19:].ravel(),
            "mosh/shape": -np.ones(10),
            "image/encoded": [b"\xff\xd8jpeg" * 50] * count,
        }
        if preprocessed:
            entries["image/phis"] = np.zeros(2048 * count)
        for name, values in (entries | changes).items():
            if values is None:
                continue
            feature = made.features.feature[name]
            whole = all(isinstance(value, int | np.integer) for value in values)
            kind = "int64" if whole else "bytes" if isinstance(values[0], bytes) else "float"
            getattr(feature, f"{kind}_list").value.extend(np.asarray(values).tolist())
        record = made.SerializeToString()
        content += struct.pack("<QI", len(record), 0) + record + struct.pack("<I", 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def people(count, seed):
    """(N, 25, 3) somebody upright in a crop, -1 to 1; heels and toes as in the release."""
    rng = np.random.default_rng(seed)
    places = np.array(
        [
            *[(-0.1, 0.9), (-0.1, 0.5), (-0.1, 0.0), (0.1, 0.0), (0.1, 0.5), (0.1, 0.9)],
            *[(-0.3, 0.0), (-0.3, -0.3), (-0.2, -0.6), (0.2, -0.6), (0.3, -0.3), (0.3, 0.0)],
            *[(0.0, -0.6), (0.0, -0.9), (0.0, -0.8), (0.03, -0.83), (-0.03, -0.83)],
            *[(0.08, -0.8), (-0.08, -0.8), (0.12, 0.95), (-0.12, 0.95), (0.15, 0.95)],
            *[(-0.15, 0.95), (0.1, 0.88), (-0.1, 0.88)],
        ]
    )
    points = places + 0.01 * rng.normal(size=(count, 25, 2))
    return np.concatenate([points, np.ones((count, 25, 1))], 2)


def test_videos_are_read_without_tensorflow(tmp_path) -> None:
    first, second = people(4, 0), people(3, 1)
    second[1, 8] = 0  # an unseen shoulder
    write(tmp_path / "train/train_0000.tfrecord", [first, second])
    write(tmp_path / "train/train_0001.tfrecord", [people(2, 2)])
    frames = list(open_recording(f"instavariety:{tmp_path / 'train'}"))
    assert [(frame.stream, frame.number) for frame in frames] == [
        *(("train_0000.tfrecord 0", n) for n in range(4)),
        *(("train_0000.tfrecord 1", n) for n in range(3)),
        *(("train_0001.tfrecord 0", n) for n in range(2)),
    ]
    assert (frames[0].width, frames[0].height) == (224, 224)
    # Network order: right shoulder 2, right ankle 10 (the last of the 25, not a heel).
    np.testing.assert_allclose(
        frames[0].keypoints[0, [2, 10], :2], 112 * (first[0, [8, 24], :2] + 1), rtol=1e-5
    )
    assert frames[5].keypoints[0, 2, 2] == 0
    assert len(list(open_recording(tmp_path / "train"))) == 9  # the kind is recognised


def test_pixels_of_the_whole_image_are_read_too(tmp_path) -> None:
    pixels = people(2, 0) * [300, 500, 1] + [360, 640, 0]
    write(tmp_path / "a.tfrecord", [pixels], preprocessed=False)
    (frame, _) = open_recording(tmp_path / "a.tfrecord")
    assert (frame.width, frame.height) == (720, 1280)
    np.testing.assert_allclose(frame.keypoints[0, 2, :2], pixels[0, 8, :2], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image/toe_pts": None}, "lacks image/toe_pts"),
        ({"meta/N": [3]}, "numbers for 3 frames"),
        ({"meta/N": []}, "not a tf.train.Example"),
    ],
)
def test_records_of_other_data_are_refused(tmp_path, change, words) -> None:
    write(tmp_path / "a.tfrecord", [people(2, 0)], **change)
    with pytest.raises(TargetError, match=words):
        list(open_recording(tmp_path / "a.tfrecord"))


def test_damaged_files_are_refused(tmp_path) -> None:
    path = tmp_path / "a.tfrecord"
    write(path, [people(2, 0)])
    whole = path.read_bytes()
    for content, words in (
        (whole[:-20], "truncated"),
        (b"not a record at all", "not a TFRecord"),
        (whole[:12] + b"\x08" + whole[13:], "tf.train.Example"),  # a number for the features
        (whole[:12] + bytes([255]) * (len(whole) - 16) + whole[-4:], "tf.train.Example"),
    ):
        path.write_bytes(content)
        with pytest.raises(TargetError, match=words):
            list(open_recording(path))
    with pytest.raises(TargetError, match="neither"):
        list(open_recording(f"instavariety:{tmp_path / 'absent'}"))
