# SPDX-License-Identifier: Apache-2.0
"""The command line from a user's point of view."""

import shlex
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from key2mesh_core import __version__
from key2mesh_core.cli import main as cli
from key2mesh_core.cli.commands import COMMANDS


@pytest.fixture
def run(capsys):
    """Runs a command in this process; the result that a separate process would give."""

    def run(*words):
        try:
            code = cli.main(list(words))
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return run


def test_help_lists_every_command():
    program = [sys.executable, "-m", "key2mesh_core.cli.main", "--help"]
    result = subprocess.run(program, capture_output=True, text=True)
    assert result.returncode == 0
    for name, command in COMMANDS.items():
        assert f"key2mesh {name}" in result.stdout
        assert command.summary in result.stdout


def test_no_command_is_a_mistake_that_teaches(run):
    result = run()
    assert result.returncode == 2
    assert "usage: key2mesh COMMAND" in result.stdout


def test_version(run):
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"key2mesh {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_its_options_by_an_example(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), "--help"])
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert COMMANDS[name].example in shown
    assert callable(cli._find(COMMANDS[name].run))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_can_be_typed(name):
    found, rest = cli.split_command(shlex.split(COMMANDS[name].example)[1:])
    assert found == name
    assert cli._options(name, COMMANDS[name], rest) is not None


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (("adapt",), "--target"),
        (("adapt", "--recipe", "paper"), "--target"),
        (("pretrain", "robot"), "--motions"),
        (("pretrain",), "robot, paper"),
        (("mesh",), "--help"),
        (("export",), "--checkpoint"),
    ],
)
def test_what_is_missing_is_named_with_the_usage(run, words, missing):
    result = run(*words)
    assert result.returncode == 2
    assert missing in result.stdout + result.stderr


def test_help_needs_no_torch():
    code = (
        "import sys; from key2mesh_core.cli.main import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    try: main([*name.split(), '--help'])\n"
        "    except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("words", [("fly",), ("body", "fly"), ("body",)])
def test_an_unknown_command_is_refused_with_the_known_ones(run, words):
    result = run(*words)
    assert result.returncode == 2
    assert " ".join(words) in result.stderr
    assert "body info" in result.stderr


def test_a_refused_input_is_one_line_and_exit_status_2(run, tmp_path):
    result = run("body", "info", str(tmp_path / "nothing.npz"))
    assert result.returncode == 2
    assert "nothing.npz" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_package_is_named_with_the_way_out(monkeypatch, capsys):
    def missing(_address: str) -> object:
        raise ModuleNotFoundError("No module named 'viser'", name="viser")

    monkeypatch.setattr(cli, "_find", missing)
    assert cli.main(["view"]) == 2
    message = capsys.readouterr().err
    assert "'viser'" in message
    assert "pip install" in message


def test_ctrl_c_ends_with_130_and_a_second_one_without_a_word():
    code = (
        "import sys, threading, time; from key2mesh_core.cli import main\n"
        "def wait(_config):\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "find = main._find\n"
        "main._find = lambda address: wait if address.endswith(':info') else find(address)\n"
        "sys.exit(main.main(['body', 'info']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "key2mesh: interrupted\n"
    time.sleep(0.2)  # it waits for its thread
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == ""


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m key2mesh_core pretrain paper --help | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "usage" in result.stdout
    assert "Traceback" not in result.stderr
