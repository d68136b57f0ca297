# SPDX-License-Identifier: Apache-2.0
"""The initial view shows the people and the camera."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from key2mesh_core.view.viewer import ASPECT, FIELD_OF_VIEW, view_of

places = st.tuples(st.floats(-8, 8), st.floats(-2, 2), st.floats(0.5, 30))


@given(st.lists(places, min_size=1, max_size=8))
def test_people_and_the_camera_are_in_the_picture_and_not_small(points):
    points = np.array(points)
    position, look_at = view_of(points)
    forward = (look_at - position) / np.linalg.norm(look_at - position)
    right = np.cross(forward, [0, -1, 0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    off = np.vstack([points, np.zeros(3)]) - position
    depth = off @ forward
    assert (depth > 0).all()
    half = np.tan(FIELD_OF_VIEW / 2)
    across = np.abs(off @ right) / depth / (half * ASPECT)
    upright = np.abs(off @ down) / depth / half
    assert max(across.max(), upright.max()) < 1.0
    assert position[1] < 0.5  # from above: y is down
