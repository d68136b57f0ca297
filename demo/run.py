# SPDX-License-Identifier: Apache-2.0
"""Plays recorded detections over DDS into the real node and receives the meshes.

Run it by `make demo`, or in any environment where `ros2 run key2mesh_ros mesh_node` works. See
demo/README.md for the processes and the meaning of the numbers. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import webbrowser
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports onnxruntime
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # started by its path, with or without PYTHONPATH

from outcome import Outcome  # noqa: E402
from processes import Child, DemoError, Processes, find_node_program  # noqa: E402

from key2mesh_core.camera.pinhole import Intrinsics  # noqa: E402
from key2mesh_core.errors import Key2MeshError  # noqa: E402
from key2mesh_core.model.bundle import load_bundle  # noqa: E402
from key2mesh_core.recordings.bags import (  # noqa: E402
    CAMERA_TYPE,
    KEYPOINTS_TYPE,
    the_topic,
)
from key2mesh_core.recordings.open import open_recording  # noqa: E402
from tools.domain import claim_domain  # noqa: E402

if TYPE_CHECKING:
    from player import Player

    from key2mesh_core.people.mesh_frame import MeshFrame

NODE = "/mesh_node"
START_S = 90.0
"""How long the node may take to become active [s]: a slow machine loads Python, too."""
VIEW_S = 30.0
"""How long the view may take to print its address [s]."""
SHOTS = 6
"""Persons in the picture."""


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bag", type=Path, default=HERE / "data" / "street", help="what to play")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only its first N frames")
    parser.add_argument("--rate", type=float, default=1.0, help="times as fast (default: 1)")
    parser.add_argument("--model", default="default", help="model bundle (default: the committed)")
    parser.add_argument("--out", type=Path, default=HERE / "out", help="folder for the picture")
    parser.add_argument(
        "--view", action="store_true", help="show the meshes in a browser; plays until Ctrl-C"
    )
    parser.add_argument("--port", type=int, default=8080, help="of the view's web page")
    return parser.parse_args(words)


def start_node(processes: Processes, options: argparse.Namespace) -> Child:
    """The installed program, listening to the recording's topics."""
    bag = options.bag
    return processes.start(
        "node",
        [
            str(find_node_program()),
            "--ros-args",
            *("-r", f"~/keypoints:={the_topic(bag, KEYPOINTS_TYPE)}"),
            *("-r", f"~/camera_info:={the_topic(bag, CAMERA_TYPE)}"),
            *("-p", f"model:={options.model}"),
        ],
    )


def start_view(processes: Processes, options: argparse.Namespace) -> None:
    """Serve the live view, and open it where there is a browser."""
    view = processes.start(
        "view",
        [
            *(sys.executable, "-m", "key2mesh_core.cli.main", "view"),
            *("--topic", f"{NODE}/meshes"),
            *("--camera-topic", the_topic(options.bag, CAMERA_TYPE)),
            *("--port", str(options.port)),
        ],
    )
    url, limit = None, time.monotonic() + VIEW_S
    while url is None and time.monotonic() < limit:
        view.check_alive()
        url = next((word for word in view.log().split() if word.startswith("http")), None)
        time.sleep(0.1)
    print(f"the live view: {url or view.log()}", file=sys.stderr)
    if url:
        webbrowser.open(url)


def run(options: argparse.Namespace, folder: Path) -> Outcome:
    """Start the node, play the recording once and write the picture; with the view, play on until
    Ctrl-C."""
    from picture import choose_shots

    os.environ.setdefault("ROS_LOG_DIR", str(folder / "ros"))  # not in the user's home
    load_bundle(options.model)  # report at once what the node would refuse
    frames = list(open_recording(options.bag))[: options.limit or None]
    outcome = Outcome.expected_of(frames)
    shots = choose_shots(frames, SHOTS)
    processes = Processes(folder)
    with ExitStack() as ended:
        ended.callback(processes.end)
        print("starting the node", file=sys.stderr)
        node = start_node(processes, options)
        player = start_player(ended, processes, options, {s.stamp_ns for s in shots}, outcome)
        try:
            player.wait_until_ready(START_S)
        except DemoError as error:
            raise DemoError(f"{error}; the node says:\n{node.log()}") from error
        body = player.topology
        triangles = np.array(body.triangles, np.int32).reshape(-1, 3)
        print(f"the node is active: {body.body_model}, {len(triangles)} triangles", file=sys.stderr)
        if options.view:
            start_view(processes, options)
        player.play(options.rate)
        options.out.mkdir(parents=True, exist_ok=True)
        write_picture(options, player.kept, triangles, shots, frames[0].camera.intrinsics)
        if complaint := outcome.complaint():
            print(f"demo: {complaint}", file=sys.stderr)
        print(json.dumps(outcome.numbers()), flush=True)
        if options.view:
            print("playing until Ctrl-C", file=sys.stderr)
            with suppress(KeyboardInterrupt):  # the way to end the view
                while True:
                    player.play(options.rate, measured=False)
    return outcome


def start_player(
    ended: ExitStack,
    processes: Processes,
    options: argparse.Namespace,
    keep: set[int],
    outcome: Outcome,
) -> Player:
    """A player in this process, which leaves the graph when `ended` does."""
    import rclpy
    from player import Player
    from rclpy.signals import SignalHandlerOptions

    # Python's own handlers: Ctrl-C is the demo's to answer.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    ended.callback(rclpy.try_shutdown)
    player = Player(NODE, options.bag, options.limit, keep, processes, outcome)
    ended.callback(player.close)
    return player


def write_picture(
    options: argparse.Namespace,
    kept: dict[int, MeshFrame],
    triangles: NDArray[np.int32],
    shots: list,
    intrinsics: Intrinsics,
) -> None:
    """Draw the shots that came back as meshes."""
    from picture import Drawn, draw

    drawn = []
    for shot in shots:
        frame = kept.get(shot.stamp_ns)
        if frame is not None and shot.name in frame.ids:
            person = frame.ids.index(shot.name)
            error = float(frame.reprojection_error[person])
            drawn.append(Drawn(shot, frame.vertices[person], error))
    if not drawn:
        print("no mesh came back, so there is no picture", file=sys.stderr)
        return
    path = options.out / "mesh.png"
    draw(drawn, triangles, intrinsics).save(path)
    print(f"picture: {path}", file=sys.stderr)


def main() -> int:
    """Run the demo; the process's exit status."""
    options = arguments()
    claim_domain()  # this demo's DDS traffic stays apart, unless told otherwise
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children are ended
    try:
        with tempfile.TemporaryDirectory(prefix="key2mesh-demo-") as folder:
            outcome = run(options, Path(folder))
    except Key2MeshError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130
    # With the view, the browser takes processor time, so the result says nothing about the node.
    return 1 if outcome.complaint() and not options.view else 0


if __name__ == "__main__":
    sys.exit(main())
