# SPDX-License-Identifier: Apache-2.0
"""`~/load_model`: another model while frames go on.

The bundle is read, checked and run once in a thread of its own; only the exchange happens on the
executor's thread, so between two frames. The answer is sent afterwards. An `async` callback would
not do for that: rclpy's executor polls a waiting one without a pause.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from key2mesh_core.errors import Key2MeshError
from key2mesh_core.model.estimator import Estimator

from .srv import LoadModel


@dataclass
class _Job:
    """A bundle on its way.

    Attributes:
        path: as it was asked for.
        owner: the configuration that it is for.
        response: to be filled in.
        header: of the request; who is to be answered.
        guard: wakes the executor.
        estimator: what came of it, or None.
        failure: why nothing came of it.
    """

    path: str
    owner: Any
    response: LoadModel.Response
    header: Any = None
    guard: Any = None
    estimator: Estimator | None = None
    failure: str = ""


class ModelLoader:
    """The service, for the node's whole life.

    Args:
        node: whose service it is.
        owner: the node's configuration; None while it has none.
        load: a warm estimator of a bundle's path; called in another thread.
        swap: takes the estimator and its path; called by the executor.
    """

    def __init__(
        self,
        node: Node,
        owner: Callable[[], Any],
        load: Callable[[str], Estimator],
        swap: Callable[[Estimator, str], None],
    ) -> None:
        self._node, self._owner, self._load, self._swap = node, owner, load, swap
        self._job: _Job | None = None
        service = node.create_service(LoadModel, "~/load_model", self._on_request)
        # The executor sends what the callback returns at once; an answer to a job waits.
        self._send, service.send_response = service.send_response, self._respond

    def _on_request(
        self, request: LoadModel.Request, response: LoadModel.Response
    ) -> LoadModel.Response:
        if self._job is not None:
            response.message = f"{self._job.path} is being loaded: wait for its answer"
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
            return
        job.header = header
        job.guard = self._node.create_guard_condition(self._finish)
        threading.Thread(target=self._work, args=(job,), daemon=True).start()

    def _work(self, job: _Job) -> None:
        try:
            job.estimator = self._load(job.path)
        except Key2MeshError as error:
            job.failure = str(error)
        except Exception as error:
            job.failure = f"{job.path}: {error!r}; see the node's log"
            self._node.get_logger().error(traceback.format_exc())
        try:
            job.guard.trigger()
        except Exception:  # the node is gone: nobody waits any more
            if job.estimator is not None:
                job.estimator.close()

    def _finish(self) -> None:
        job, self._job = self._job, None
        self._node.destroy_guard_condition(job.guard)
        response, estimator = job.response, job.estimator
        if estimator is None:
            response.message = f"{job.failure} (the model before runs on)"
        elif self._owner() is not job.owner:
            estimator.close()
            response.message = "the node was cleaned up while the model was being loaded"
        else:
            self._swap(estimator, job.path)
            response.ok = True
            bundle = estimator.bundle
            response.message = f"model {bundle.name}, body {bundle.body_model}, {estimator.device}"
        log = self._node.get_logger()
        (log.info if response.ok else log.error)(f"load_model {job.path}: {response.message}")
        self._send(response, job.header)
