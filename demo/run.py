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
import webbrowser
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before anything imports onnxruntime
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # started by its path, with or without PYTHONPATH

from outcome import Outcome  # noqa: E402
from processes import Child, DemoError, Processes, find_node_program  # noqa: E402

from key2mesh_core.camera.pinhole import Intrinsics  # noqa: E402
from key2mesh_core.errors import Key2MeshError  # noqa: E402
from key2mesh_core.model.bundle import load_bundle  # noqa: E402
from key2mesh_core.recordings.open import open_recording  # noqa: E402
from key2mesh_core.recordings.own_messages import (  # noqa: E402
    CAMERA_TYPE,
    KEYPOINTS_TYPE,
    the_topic,
)
from key2mesh_ros.domain import claim_domain  # noqa: E402

NODE = "/mesh_node"
START_S = 90.0
"""How long the node may take to become active [s]: a slow machine loads Python, too."""
SILENCE_S = 3.0
"""How long to wait for answers after the last frame [s]."""
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
        "--view", action="store_true", help="show the meshes in a browser; goes on until Ctrl-C"
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


def start_view(processes: Processes, options: argparse.Namespace) -> Child:
    """The browser's page; opens it where there is a browser to open."""
    view = processes.start(
        "view",
        [
            *(sys.executable, "-m", "key2mesh_core.cli.main", "view"),
            *("--topic", f"{NODE}/meshes"),
            *("--camera-topic", the_topic(options.bag, CAMERA_TYPE)),
            *("--port", str(options.port)),
        ],
    )
    line = view.read_line(30.0)
    print(f"the live view: {line}", file=sys.stderr)
    url = next((word for word in line.split() if word.startswith("http")), None)
    if url:
        webbrowser.open(url)
    return view


def wait_until_ready(receiver: Child, node: Child) -> None:
    """Until the node is active and its meshes would arrive.

    Raises:
        DemoError: the node ended or did not become active.
    """
    print("starting the node", file=sys.stderr)
    for event in receiver.events(START_S, also_alive=node):
        if "ready" in event:
            print(
                f"the node is active: {event['body_model']}, {event['triangles']} triangles",
                file=sys.stderr,
            )
            return
    raise DemoError(f"the node was not active after {START_S:g} s; it says:\n{node.log()}")


def play(options: argparse.Namespace, folder: Path) -> tuple[Outcome, Processes]:
    """Runs the processes once through the recording; whoever calls it ends them."""
    from picture import choose_shots

    os.environ.setdefault("ROS_LOG_DIR", str(folder / "ros"))  # not in the user's home
    load_bundle(options.model)  # what the node would refuse is said at once
    frames = list(open_recording(options.bag))[: options.limit or None]
    outcome = Outcome.expected_of(frames)
    shots = choose_shots(frames, SHOTS)
    processes = Processes(folder)
    try:
        node = start_node(processes, options)
        kept = folder / "kept.npz"
        stamps = [str(shot.stamp_ns) for shot in shots]
        receiver = processes.start(
            "receiver", [sys.executable, str(HERE / "receiver.py"), NODE, str(kept), *stamps]
        )
        wait_until_ready(receiver, node)
        if options.view:
            start_view(processes, options)
        loop = ["loop"] if options.view else []
        player = processes.start(
            "player",
            [
                *(sys.executable, str(HERE / "player.py")),
                *(str(options.bag), str(options.limit), str(options.rate), *loop),
            ],
        )
        outcome.follow(player, receiver, node, SILENCE_S)
        receiver.finish()
        if options.view:
            player.go_on()
        options.out.mkdir(parents=True, exist_ok=True)
        write_picture(options, kept, shots, frames[0].camera.intrinsics)
    except BaseException:
        processes.end()
        raise
    return outcome, processes


def write_picture(
    options: argparse.Namespace, kept: Path, shots: list, intrinsics: Intrinsics
) -> None:
    """Draws the shots that came back as meshes."""
    from picture import Drawn, draw

    arrays = np.load(kept)
    drawn = []
    for shot in shots:
        names = arrays.get(f"ids_{shot.stamp_ns}", np.array([])).tolist()
        if shot.name in names:
            person = names.index(shot.name)
            vertices = arrays[f"vertices_{shot.stamp_ns}"][person]
            drawn.append(Drawn(shot, vertices, float(arrays[f"errors_{shot.stamp_ns}"][person])))
    if not drawn:
        print("no mesh came back, so there is no picture", file=sys.stderr)
        return
    path = options.out / "mesh.png"
    draw(drawn, arrays["triangles"], intrinsics).save(path)
    print(f"picture: {path}", file=sys.stderr)


def main() -> int:
    """Returns the process's exit status."""
    options = arguments()
    claim_domain()  # this demo's DDS traffic stays apart, unless told otherwise
    complaint = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children are ended
    try:
        with tempfile.TemporaryDirectory(prefix="key2mesh-demo-") as folder:
            outcome, processes = play(options, Path(folder))
            try:
                complaint = outcome.complaint()
                if complaint:
                    print(f"demo: {complaint}", file=sys.stderr)
                print(json.dumps(outcome.numbers()), flush=True)
                if options.view:
                    print("playing on until Ctrl-C", file=sys.stderr)
                    processes.wait()
            except KeyboardInterrupt:
                pass  # the way to end the view
            finally:
                processes.end()
    except Key2MeshError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130
    # With the view the browser takes its share of the machine: no measure of the node.
    return 1 if complaint and not options.view else 0


if __name__ == "__main__":
    sys.exit(main())
