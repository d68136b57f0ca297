# SPDX-License-Identifier: Apache-2.0
"""The command line as a person meets it: real processes, real words."""

import subprocess
import sys

import pytest

from key2mesh_core.cli import main as cli


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "key2mesh_core.cli.main", *words], capture_output=True, text=True
    )


def test_help_lists_every_job():
    result = run("--help")
    assert result.returncode == 0
    for name, job in cli.JOBS.items():
        assert f"key2mesh {name}" in result.stdout
        assert job.summary in result.stdout


def test_no_job_is_a_mistake_that_teaches():
    result = run()
    assert result.returncode == 2
    assert "usage: key2mesh JOB" in result.stdout


@pytest.mark.parametrize("name", cli.JOBS)
def test_every_job_explains_its_options_and_has_a_function(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert f"key2mesh {name}" in capsys.readouterr().out
    assert callable(cli._find(cli.JOBS[name].run))


def test_help_needs_no_torch():
    code = (
        "import sys; from key2mesh_core import cli\n"
        "for name in cli.JOBS:\n"
        "    try: cli.main([*name.split(), '--help'])\n"
        "    except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("words", [("fly",), ("body", "fly"), ("body",)])
def test_an_unknown_job_is_refused_with_the_known_ones(words):
    result = run(*words)
    assert result.returncode == 2
    assert " ".join(words) in result.stderr
    assert "body info" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_refused_input_is_one_line_and_exit_status_2(tmp_path):
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


def test_ctrl_c_ends_with_130(monkeypatch, capsys):
    def interrupted(_address: str) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_find", interrupted)
    assert cli.main(["view"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m key2mesh_core pretrain paper --help | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "usage" in result.stdout
    assert "Traceback" not in result.stderr
