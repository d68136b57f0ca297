# SPDX-License-Identifier: Apache-2.0
"""Every error that key2mesh raises on purpose derives from one class.

Catch `Key2MeshError` to survive bad input. The message names the offending value or file and says
what to do about it.
"""


class Key2MeshError(Exception):
    """Base class of all errors that this project raises on purpose."""


class BodyFileError(Key2MeshError):
    """A body model file is missing, damaged, unsafe or not in SMPL's format."""


class BundleError(Key2MeshError):
    """A model bundle is missing, truncated, altered or of another format version."""


class KeypointError(Key2MeshError):
    """Keypoints have an unknown layout or a wrong shape, or there are too few."""


class CameraError(Key2MeshError):
    """Camera intrinsics that no pinhole camera can have."""


class EngineError(Key2MeshError):
    """A graph cannot be loaded or run, or its inputs and outputs are not as expected."""


class BagError(Key2MeshError):
    """A recording is missing or damaged, or lacks the requested topic or type."""


class TargetError(Key2MeshError):
    """Detections to adapt to are missing, damaged, in another format, or unusable."""


class TrainingError(Key2MeshError):
    """A training run cannot start or continue, or its numbers are not finite."""


class EvaluationError(Key2MeshError):
    """Predictions, ground truth or test data cannot be compared."""
