# SPDX-License-Identifier: Apache-2.0
"""What rclpy's lifecycle nodes lack."""

from __future__ import annotations

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode


def refuse_illegal_transitions(node: LifecycleNode) -> None:
    """Answer a request for a transition that the node's state does not have with a refusal.

    rclpy lets the state machine's exception through: one wrong request would end the process,
    and whoever asked would wait for ever.
    """
    service = next(each for each in node.services if each.srv_type is ChangeState)
    change_state = service.callback

    def callback(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return change_state(request, response)
        except Exception as error:  # rclpy's RCLError, which it does not make public
            node.get_logger().error(f"transition {request.transition.id} refused: {error}")
            response.success = False
            return response

    service.callback = callback
