# SPDX-License-Identifier: Apache-2.0
"""Every error that key2mesh raises on purpose descends from one root.

A caller that wants to survive bad input catches `Key2MeshError`; a message names the
offending value (or file) and says what to do about it.
"""


class Key2MeshError(Exception):
    """Root of all errors raised on purpose by this project."""


class BodyFileError(Key2MeshError):
    """A body model file is missing, damaged, unsafe or not in SMPL's format."""


class BundleError(Key2MeshError):
    """A model bundle is missing, truncated, altered or of another format version."""


class KeypointError(Key2MeshError):
    """Keypoints of an unknown layout, of a wrong shape, or too few of them."""


class CameraError(Key2MeshError):
    """Camera intrinsics that no pinhole camera can have."""


class EngineError(Key2MeshError):
    """A graph cannot be loaded or run, or its inputs and outputs are not as expected."""


class BagError(Key2MeshError):
    """A recording is missing or damaged, or lacks the requested topic or type."""


class TargetError(Key2MeshError):
    """Detections to adapt to that are missing, damaged, of another format, or of no use."""


class TrainingError(Key2MeshError):
    """A training run cannot start, continue or trust its numbers."""


class EvaluationError(Key2MeshError):
    """Predictions, truth or measuring data that cannot be compared."""


class RenderError(Key2MeshError):
    """A picture is asked for of things that do not fit one another."""
