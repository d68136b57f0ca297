# SPDX-License-Identifier: Apache-2.0
"""`~/load_model`: changes the model while frames are processed.

A separate thread reads, checks and warms up the bundle, swaps the models under the node's lock,
between two frames, and sends the response. An `async` callback would not do: rclpy's executor polls
a waiting one without a pause.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from key2mesh_core.errors import Key2MeshError
from key2mesh_core.model.estimator import Estimator

from .guarded_node import GuardedNode
from .srv import LoadModel


@dataclass
class _Job:
    path: str  # the requested bundle
    owner: Any  # the configuration it is loaded for
    response: LoadModel.Response


class ModelLoader:
    """The service; it exists as long as the node.

    Args:
        owner: returns the node's configuration, or None while it has none.
        load: makes a warmed-up estimator from a bundle's path; called in another thread.
        swap: takes the estimator and its path; called in that thread under the node's lock.
    """

    def __init__(
        self,
        node: GuardedNode,
        owner: Callable[[], Any],
        load: Callable[[str], Estimator],
        swap: Callable[[Estimator, str], None],
    ) -> None:
        self._node, self._owner, self._load, self._swap = node, owner, load, swap
        self._job: _Job | None = None
        service = node.create_service(LoadModel, "~/load_model", self._load_model)
        # The executor sends what the callback returns at once; a job's response follows later.
        self._send, service.send_response = service.send_response, self._respond

    def _load_model(
        self, request: LoadModel.Request, response: LoadModel.Response
    ) -> LoadModel.Response:
        if self._job is not None:
            response.message = f"{self._job.path} is being loaded: wait for its response"
        elif self._owner() is None:
            response.message = (
                "the node is not configured: set the parameter 'model' and configure it"
            )
        elif not request.path:
            response.message = "path must be 'default' or a bundle's folder, got ''"
        else:
            self._job = _Job(request.path, self._owner(), response)
        return response

    def _respond(self, response: LoadModel.Response, header: Any) -> None:
        job = self._job
        if job is None or response is not job.response:
            self._send(response, header)
        else:
            threading.Thread(target=self._work, args=(job, header), daemon=True).start()

    def _work(self, job: _Job, header: Any) -> None:
        response, log = job.response, self._node.get_logger()
        try:
            self._exchange(job)
            response.ok = True
            log.info(f"load_model {job.path}: {response.message}")
        except Exception as error:
            known = isinstance(error, Key2MeshError)
            response.message = f"{error if known else repr(error)} (the previous model is kept)"
            if not known:
                self._node.on_callback_error(error)
                log.error(traceback.format_exc())
            log.error(f"load_model {job.path}: {response.message}")
        self._job = None
        with suppress(Exception):  # the node, and with it the response, is gone
            self._send(response, header)

    def _exchange(self, job: _Job) -> None:
        estimator = self._load(job.path)
        try:
            with self._node.lock:
                if self._owner() is not job.owner:
                    raise Key2MeshError("the node was cleaned up while the model was being loaded")
                self._swap(estimator, job.path)
        except BaseException:
            estimator.close()
            raise
        bundle = estimator.bundle
        job.response.message = f"model {bundle.name}, body {bundle.body_model}, {estimator.device}"
