# SPDX-License-Identifier: Apache-2.0
"""The `key2mesh` command: parses the command line, runs one command, and prints errors in one line.

The top layer: it may import everything, and nothing imports it.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
import os
import sys
from typing import Any

from key2mesh_core import __version__
from key2mesh_core.cli.commands import COMMANDS, Command
from key2mesh_core.errors import Key2MeshError
from key2mesh_core.interrupts import end_at_next_interrupt

REFUSED, INTERRUPTED, PIPE_CLOSED = 2, 130, 141
"""Exit statuses: unusable input or options; Ctrl-C; closed output pipe."""

_USAGE = """\
usage: key2mesh COMMAND [OPTIONS]
       key2mesh COMMAND --help      a command's options, with an example
       key2mesh --version

From 2D keypoints to SMPL body meshes in metres.
"""

_PIP_NAMES = {"PIL": "pillow", "ruamel": "ruamel.yaml", "tensorrt": "tensorrt-cu12"}


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the process's exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text())
        return 0 if arguments else REFUSED
    if arguments == ["--version"]:
        print(f"key2mesh {__version__}")
        return 0
    # OpenMP's threads spin while they wait; with anything else running on the same cores, training
    # took ten times as long. Sleeping costs almost nothing. The variable is read when torch is
    # imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        name, rest = split_command(arguments)
        command = COMMANDS[name]
        options = _options(name, command, rest)
        result = _find(command.run)(options)
        return result if isinstance(result, int) else 0
    except Key2MeshError as error:
        print(f"key2mesh: {error}", file=sys.stderr)
        return REFUSED
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0].startswith("key2mesh"):
            raise
        package = error.name.split(".")[0]
        print(
            f"key2mesh: this command needs the Python package {package!r}, which is not installed: "
            f"pip install {_PIP_NAMES.get(package, package)} (docs/install.md lists what each "
            "command needs)",
            file=sys.stderr,
        )
        return REFUSED
    except BrokenPipeError:  # the reader (`| head`) has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt:
        end_at_next_interrupt(INTERRUPTED)
        print("key2mesh: interrupted", file=sys.stderr)
        return INTERRUPTED


def help_text() -> str:
    """The page that `key2mesh --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  key2mesh {name:<{width}}  {each.summary}" for name, each in COMMANDS.items()]
    return "\n".join([_USAGE, *lines])


def split_command(arguments: list[str]) -> tuple[str, list[str]]:
    """The command's name and its arguments."""
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in COMMANDS:
            return name, arguments[words:]
    group = [name for name in COMMANDS if name.startswith(f"{arguments[0]} ")]
    close = difflib.get_close_matches(arguments[0], COMMANDS, 1)
    guess = f" (did you mean {close[0]!r}?)" if close and not group else ""
    raise Key2MeshError(
        f"there is no command {' '.join(arguments[:2])!r}{guess}; the commands are: "
        f"{', '.join(group or COMMANDS)}"
    )


def _options(name: str, command: Command, arguments: list[str]) -> Any:
    """The command's options as its dataclass; prints the usage and exits if they are wrong."""
    import tyro  # imported here, so that a bare --help stays instant

    config = _find(command.config)
    program: dict[str, Any] = {"args": arguments, "prog": f"key2mesh {name}"}
    example = f"Example:\n  {command.example}"
    if isinstance(config, dict):
        recipes = {
            recipe: (summary, _without(options, command.required, tyro.MISSING))
            for recipe, (summary, options) in config.items()
        }
        described = f"{inspect.getdoc(next(iter(recipes.values()))[1])}\n\n{example}"
        if not command.recipe_option:  # each recipe is a subcommand
            return tyro.extras.overridable_config_cli(recipes, description=described, **program)
        defaults = recipes[_recipe_of(arguments, recipes)][1]
        return tyro.cli(type(defaults), default=defaults, description=described, **program)
    described = f"{inspect.getdoc(config)}\n\n{example}"
    markers = (tyro.conf.PositionalRequiredArgs,) if command.positional else ()
    return tyro.cli(config, description=described, config=markers, **program)


def _without(options: Any, required: tuple[str, ...], missing: Any) -> Any:
    """A recipe's options, with those that the user must give marked as missing."""
    changed = copy.copy(options)
    for name in required:
        object.__setattr__(changed, name, missing)
    return changed


def _recipe_of(arguments: list[str], recipes: dict[str, Any]) -> str:
    """The recipe named by `--recipe`; the first one if it is missing or unknown (tyro reports that
    better)."""
    for place, word in enumerate(arguments):
        option, _, value = word.partition("=")
        name = value or " ".join(arguments[place + 1 : place + 2])
        if option == "--recipe" and name in recipes:
            return name
    return next(iter(recipes))


def _find(address: str) -> Any:
    module, name = address.split(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    sys.exit(main())
