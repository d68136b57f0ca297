# SPDX-License-Identifier: Apache-2.0
"""Key2Mesh: body meshes in metres from 2D keypoints. Nothing here imports ROS.

The names below are the public interface; each is imported when first used, and none of them imports
torch. Everything else in the modules may change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_MODULES = {
    "Bodies": "people.bodies",
    "Bundle": "model.bundle",
    "Camera": "camera.choose",
    "CameraOptions": "camera.choose",
    "Estimator": "model.estimator",
    "GpuOptions": "model.estimator",
    "Intrinsics": "camera.pinhole",
    "Key2MeshError": "errors",
    "PersonFrame": "people.person_frame",
    "Smoother": "people.smoothing",
    "Tracker": "people.tracking",
    "choose_camera": "camera.choose",
    "load_bundle": "model.bundle",
    "open_recording": "recordings.open",
    "to_network": "keypoints.layouts",
    "usable": "keypoints.arrays",
}

__all__ = [*_MODULES, "__version__"]

if TYPE_CHECKING:
    from key2mesh_core.camera.choose import Camera as Camera
    from key2mesh_core.camera.choose import CameraOptions as CameraOptions
    from key2mesh_core.camera.choose import choose_camera as choose_camera
    from key2mesh_core.camera.pinhole import Intrinsics as Intrinsics
    from key2mesh_core.errors import Key2MeshError as Key2MeshError
    from key2mesh_core.keypoints.arrays import usable as usable
    from key2mesh_core.keypoints.layouts import to_network as to_network
    from key2mesh_core.model.bundle import Bundle as Bundle
    from key2mesh_core.model.bundle import load_bundle as load_bundle
    from key2mesh_core.model.estimator import Estimator as Estimator
    from key2mesh_core.model.estimator import GpuOptions as GpuOptions
    from key2mesh_core.people.bodies import Bodies as Bodies
    from key2mesh_core.people.person_frame import PersonFrame as PersonFrame
    from key2mesh_core.people.smoothing import Smoother as Smoother
    from key2mesh_core.people.tracking import Tracker as Tracker
    from key2mesh_core.recordings.open import open_recording as open_recording


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
