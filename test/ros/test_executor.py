# SPDX-License-Identifier: Apache-2.0
"""Urgent messages come first, and everything else of a node goes on as with rclpy's executor."""

import threading
import time
from contextlib import contextmanager

import pytest
import rclpy
from helpers_ros import PATIENCE_S
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile
from std_msgs.msg import String
from std_srvs.srv import Trigger

from key2mesh_ros.executor import Urgent, UrgentFirstExecutor

RELIABLE = QoSProfile(depth=10)


@pytest.fixture
def node():
    result = rclpy.create_node("urgent_first")
    yield result
    result.destroy_node()


@contextmanager
def spinning(node):
    """The executor at work in a thread of its own; its errors, if any."""
    executor, errors = UrgentFirstExecutor(), []
    executor.add_node(node)

    def spin():
        try:
            executor.spin()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield executor, errors
    finally:
        executor.shutdown()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def wait(condition):
    limit = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def listen(node, topic, heard, **options):
    subscription = node.create_subscription(
        String, topic, lambda message, info: heard.append((topic, message.data)), RELIABLE,
        **options,
    )  # fmt: skip
    publisher = node.create_publisher(String, topic, RELIABLE)
    wait(publisher.get_subscription_count)
    return publisher, subscription


def test_what_is_urgent_comes_first_and_the_rest_after_it(node):
    heard = []
    plain, _ = listen(node, "plain", heard)
    urgent, _ = listen(node, "urgent", heard, callback_group=Urgent())
    for number in range(3):
        plain.publish(String(data=str(number)))
    urgent.publish(String(data="0"))
    time.sleep(0.2)  # both have come before anybody looks
    with spinning(node):
        wait(lambda: len(heard) == 4)
    assert heard[0] == ("urgent", "0")
    assert heard[1:] == [("plain", str(number)) for number in range(3)]


def test_timers_services_and_tasks_go_on_under_a_stream_of_urgent_messages(node):
    heard, ticks, done = [], [], []
    urgent, _ = listen(node, "urgent", heard, callback_group=Urgent())
    node.create_timer(0.02, lambda: ticks.append(1))

    def answer(request, response):
        response.success = True
        return response

    node.create_service(Trigger, "trigger", answer)
    other = rclpy.create_node("asks")
    client = other.create_client(Trigger, "trigger")
    try:
        with spinning(node) as (executor, _):
            assert client.wait_for_service(PATIENCE_S)
            asked = client.call_async(Trigger.Request())
            for number in range(100):
                urgent.publish(String(data=str(number)))
                if number == 50:
                    executor.create_task(lambda: done.append(1))
                    executor.create_task(lambda: done.append(2))
                rclpy.spin_once(other, timeout_sec=0.005)
            wait(lambda: (rclpy.spin_once(other, timeout_sec=0.01), asked.done())[1])
            wait(lambda: len(heard) == 100 and len(done) == 2)
            assert asked.result().success
            before = len(ticks)
            assert before > 5
            wait(lambda: len(ticks) > before + 5)  # and in silence
    finally:
        other.destroy_node()
    assert [number for _, number in heard] == [str(number) for number in range(100)]


def test_a_subscription_may_go_and_another_come_while_it_is_waited_for(node):
    heard = []
    with spinning(node):
        for name in ("one", "two", "three"):
            publisher, subscription = listen(node, name, heard, callback_group=Urgent())
            publisher.publish(String(data="x"))
            wait(lambda name=name: (name, "x") in heard)
            node.destroy_subscription(subscription)
            wait(lambda publisher=publisher: not publisher.get_subscription_count())


@pytest.mark.parametrize("options", [{}, {"callback_group": Urgent()}])
def test_an_error_of_a_callback_leaves_spin(node, options):
    def fail(message, info):
        raise ZeroDivisionError(message.data)

    node.create_subscription(String, "broken", fail, RELIABLE, **options)
    publisher = node.create_publisher(String, "broken", RELIABLE)
    wait(publisher.get_subscription_count)
    with spinning(node) as (_, errors):
        publisher.publish(String(data="a bug"))
        wait(lambda: errors)
    assert isinstance(errors[0], ZeroDivisionError)


def test_the_end_of_the_context_leaves_spin():
    context = rclpy.Context()
    rclpy.init(context=context)
    executor = UrgentFirstExecutor(context=context)
    node = rclpy.create_node("ends", context=context)
    executor.add_node(node)
    timer = threading.Timer(0.3, context.shutdown)
    timer.start()
    with pytest.raises(ExternalShutdownException):
        executor.spin()
    executor.shutdown()
    node.destroy_node()


def test_it_costs_no_time_to_wait(node):
    """Nothing is looked at again and again while nothing happens."""
    with spinning(node):
        time.sleep(0.3)
        begin = time.process_time()
        time.sleep(1.0)
        assert time.process_time() - begin < 0.2
