# SPDX-License-Identifier: Apache-2.0
"""A server with S3's interface, and a line to it that breaks when it is told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.request import Request, urlopen


class BreakingLine:
    """A TCP proxy on `port` that carries `limit` bytes towards the server, and then none: it
    closes the connections ("cut") or lets them hang ("stall")."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.broken = threading.Event()
        self.whole()
        threading.Thread(target=self._accept, daemon=True).start()

    def whole(self) -> None:
        """Carries everything."""
        self.break_after(1 << 60)

    def break_after(self, limit: int, how: str = "cut") -> None:
        self._left, self._how = limit, how
        self.broken.clear()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.broken.is_set() and self._how == "cut":
                    client.close()
                    continue
                server = socket.create_connection(self._server)
                for pair in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if counts:
                    self._left -= len(data)
                    if self._left < 0:
                        self.broken.set()
                        if self._how == "stall":
                            return
                        break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def s3_server(monkeypatch) -> Iterator[BreakingLine]:
    """A moto server with the bucket `box`, behind a breaking line; the environment tells AWS's
    clients to use it."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    line = BreakingLine((host, port))
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_MAX_ATTEMPTS", "2"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        # Its files outlive a server in the same process.
        urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
        bucket().mkdir("box")
        yield line
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        line.close()
        server.stop()


def bucket():
    """The server's files, read anew."""
    import s3fs

    return s3fs.S3FileSystem(use_listings_cache=False)
