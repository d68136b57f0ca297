# SPDX-License-Identifier: Apache-2.0
"""Lens distortion in the node: people are where a pinhole camera would see them."""

import numpy as np
import pytest
from helpers_ros import camera_info, client, node_here, people, standing

from key2mesh_core.camera.lens import distort_pixels, read_distortion
from key2mesh_core.camera.pinhole import Intrinsics


@pytest.mark.parametrize("rectified", [False, True])
def test_what_the_lens_bent_stands_where_it_stood(bundle, rectified):
    straight = standing(520.0, 300.0, height=250.0)
    info = camera_info(fx=600.0)
    info.distortion_model, info.d = "plumb_bob", [-0.25, 0.06, 0.001, -0.0005, 0.0]
    info.p = [600.0, 0.0, 320.0, 0.0, 0.0, 600.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    bent = straight.copy()
    lens = read_distortion(info.distortion_model, info.d)
    bent[:, :2] = distort_pixels(straight[:, :2], Intrinsics(600.0, 600.0, 320.0, 240.0), lens)
    assert np.abs(bent - straight).max() > 8.0  # px
    values = {"model": str(bundle), "image_rectified": rectified, "diagnostics_period": 0.1}
    with node_here(**values), client() as probe:
        for step in ("configure", "activate"):
            assert probe.change_state(step)
        probe.wait_for_node()

        def place(info, keypoints, camera):
            def known():
                probe.camera.publish(info)
                probe.exchange_again(people(keypoints))
                return camera in probe.values.get("camera", "")

            probe.wait(known, camera)
            where = probe.exchange_again(people(keypoints)).bodies[0].position
            return np.array([where.x, where.y, where.z])

        shown = "rectified" if rectified else "plumb_bob undone"
        found = place(info, straight if rectified else bent, shown)
        plain = camera_info(fx=600.0)
        plain.p = info.p
        expected = place(plain, straight, "CameraInfo")
    np.testing.assert_allclose(found, expected, atol=0.002)
