# SPDX-License-Identifier: Apache-2.0
"""Where things are in the source tree, and which module imports which."""

import ast
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
PACKAGES = ("key2mesh_core", "key2mesh_ros")


@dataclass(frozen=True)
class Module:
    """A module of ours and the dotted names that it imports.

    ``at_import`` run when the module is imported; ``later`` stand inside functions; those under
    ``if TYPE_CHECKING`` are in neither, for they never run.
    """

    name: str
    at_import: frozenset[str]
    later: frozenset[str]


def modules() -> dict[str, Module]:
    """Every module of both packages, by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((TREE / package).rglob("*.py")):
            parts = path.relative_to(TREE).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = parse(name, path.read_text(), is_package=parts[-1] == "__init__")
    return found


def parse(name: str, source: str, is_package: bool = False) -> Module:
    """Read the imports of one module's source text."""
    at_import: set[str] = set()
    later: set[str] = set()

    def walk(node: ast.AST, inside_function: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                walk(child, inside_function)
            return
        names = later if inside_function else at_import
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = node.level - is_package
            here = name.rsplit(".", up)[0] if up else name
            source_module = ".".join(filter(None, [here if node.level else "", node.module]))
            names |= {source_module} | {f"{source_module}.{alias.name}" for alias in node.names}
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            walk(child, inside_function or function)

    walk(ast.parse(source), False)
    return Module(name, frozenset(at_import), frozenset(later))


def import_closure(start: str, every: dict[str, Module]) -> frozenset[str]:
    """Top-level names of the outside packages that ``import start`` loads, by our own imports."""
    outside: set[str] = set()
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        # Importing a.b.c runs a and a.b too.
        parents = [name.rsplit(".", count)[0] for count in range(1, name.count(".") + 1)]
        for module in [name, *parents]:
            if module in seen or module not in every:
                continue
            seen.add(module)
            for imported in every[module].at_import:
                if imported.split(".")[0] in PACKAGES:
                    waiting.append(imported)
                else:
                    outside.add(imported.split(".")[0])
    return frozenset(outside)
