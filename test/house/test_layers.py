# SPDX-License-Identifier: Apache-2.0
"""The arrows between the rooms run one way."""

import subprocess
import sys

import pytest
from helpers_house import TREE, import_closure, modules, parse

MODULES = modules()
CORE = [module for module in MODULES.values() if module.name.startswith("key2mesh_core")]

# What `pip install key2mesh` brings: all that a robot's half may import.
RUN_TIME = {"array_api_compat", "numpy", "onnxruntime", "tyro"}
# The extras that a module's users are told to install.
WITH_EXTRAS = {
    "key2mesh_core.model.estimator": RUN_TIME,
    "key2mesh_core.model.engines.onnx": RUN_TIME,
    "key2mesh_core.model.engines.tensorrt": RUN_TIME,
    "key2mesh_core.cli.build_engine": RUN_TIME,
    "key2mesh_core.model.bundle": RUN_TIME,
    "key2mesh_core.people.smoothing": RUN_TIME,
    "key2mesh_core.people.tracking": RUN_TIME,
    "key2mesh_core.cli.main": RUN_TIME,
    "key2mesh_core.recordings.definitions": RUN_TIME,
    "key2mesh_core.body.files": RUN_TIME,
    "key2mesh_core.learning.pretrain.config": RUN_TIME,
    "key2mesh_core.evaluation.config": RUN_TIME,
    "key2mesh_core.evaluation.metrics": RUN_TIME,
    "key2mesh_core.cli.view": RUN_TIME,
    "key2mesh_core.meshing.config": RUN_TIME,
    "key2mesh_core.meshing.job": RUN_TIME | {"rosbags", "ruamel"},
    "key2mesh_core.view.render": RUN_TIME | {"PIL"},
    "key2mesh_core.recordings.bags": RUN_TIME | {"rosbags"},
    "key2mesh_core.recordings.targets": RUN_TIME,  # only targets of the kind "bag" need rosbags
    "key2mesh_core.cli.targets": RUN_TIME,
    "key2mesh_core.people.messages": RUN_TIME,
    "key2mesh_core.view.viewer": RUN_TIME | {"PIL", "viser"},
}
ROS = ("rclpy", "rcl_interfaces", "builtin_interfaces", "launch", "key2mesh_ros")


def test_reading_imports_tells_when_they_run() -> None:
    source = "import a\nif TYPE_CHECKING:\n    import b\ndef f():\n    from c.d import e\n"
    module = parse("m", source)
    assert module.at_import == {"a"}
    assert module.later == {"c.d", "c.d.e"}


def test_reading_imports_follows_dots() -> None:
    source = "from .c import d\nfrom . import e\nfrom ..f import g\n"
    assert parse("a.b.m", source).at_import == {"a.b.c", "a.b.c.d", "a.b", "a.b.e", "a.f", "a.f.g"}
    assert "a.b.c.d" in parse("a.b", "from .c import d", is_package=True).at_import


def test_a_forbidden_import_is_seen_through_others() -> None:
    every = {
        "key2mesh_core.a": parse("key2mesh_core.a", "from key2mesh_core.b import c"),
        "key2mesh_core.b": parse("key2mesh_core.b", "import torch.nn"),
    }
    assert import_closure("key2mesh_core.a", every) == {"torch"}


@pytest.mark.parametrize("module", CORE, ids=lambda module: module.name)
def test_the_core_knows_no_ros(module) -> None:
    # The cli may name a ROS-side function in a string: it runs only where ROS is.
    imported = {name.split(".")[0] for name in module.at_import | module.later}
    ros = {name for name in imported if name in ROS or name.endswith("_msgs")}
    if module.name == "key2mesh_core.cli.view":
        ros -= {"key2mesh_ros"}  # `key2mesh view --topic`: the one door, opened when asked for
        assert not any(name.startswith("key2mesh_ros") for name in module.at_import)
    assert not ros


@pytest.mark.parametrize(("name", "allowed"), WITH_EXTRAS.items(), ids=WITH_EXTRAS.keys())
def test_what_runs_imports_only_what_its_users_install(name: str, allowed: set[str]) -> None:
    assert name in MODULES
    outside = import_closure(name, MODULES) - set(sys.stdlib_module_names)
    assert outside <= allowed


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name.startswith("key2mesh_ros")], ids=lambda name: name
)
def test_the_ros_half_imports_no_training(name: str) -> None:
    heavy = {"torch", "onnx", "onnxscript", "scipy", "smplx", "tensorboard"}
    assert not import_closure(name, MODULES) & heavy


def test_nothing_imports_the_command_line() -> None:
    importers = {
        module.name
        for module in MODULES.values()
        if any(
            imported == "key2mesh_core.cli.main" or imported.startswith("key2mesh_core.cli.main.")
            for imported in module.at_import | module.later
        )
    }
    assert importers <= {"key2mesh_core.__main__"}


def test_only_tests_and_benchmarks_use_the_non_commercial_oracle() -> None:
    users = [
        module.name
        for module in MODULES.values()
        if any(imported.split(".")[0] == "smplx" for imported in module.at_import | module.later)
    ]
    assert users == []


@pytest.mark.parametrize(
    "module",
    ["model.estimator", "model.bundle", "cli.main", "body.files", "recordings.bags", "view.render"],
)
def test_a_fresh_interpreter_loads_no_torch(module: str) -> None:
    program = (
        f"import sys; import key2mesh_core.{module}; "
        "heavy = {'torch', 'onnx', 'scipy', 'rclpy'} & set(sys.modules); "
        "sys.exit(f'loaded {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=TREE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
