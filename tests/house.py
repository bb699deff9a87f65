"""The house as its source text shows it: every module of the package, parsed once."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import kuberml

ROOT = Path(kuberml.__file__).parent


class Import(NamedTuple):
    """One imported name.

    name: dotted, as far as it is known to be a module ("kuberml.core.ids", "numpy.random").
    when: "module" (runs when the importer is imported), "call" (inside a function) or "types" (under TYPE_CHECKING).
    """

    name: str
    when: str
    line: int


class Module(NamedTuple):
    """One source file."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        """The room of the house: "core" for kuberml.core.ids, "" for kuberml itself."""
        return room(self.name)


def room(name: str) -> str:
    """The package under kuberml that a dotted name is in; `python -m kuberml` is the command's."""
    second = [*name.split("."), ""][1]
    return "cli" if second == "__main__" else second


@functools.cache
def modules() -> dict[str, Module]:
    """All modules of kuberml by dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
        found[name] = Module(name, path, ast.parse(path.read_text(), str(path)))
    return found


@functools.cache
def imports(module: str) -> tuple[Import, ...]:
    """All imports of one module, wherever they stand in it."""
    return tuple(_imports(modules()[module].tree, "module"))


def _imports(node: ast.AST, when: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, when, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"a relative import in line {child.lineno}: the house uses full names"
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                yield Import(whole if whole in modules() else str(child.module), when, child.lineno)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports(child, "call" if when == "module" else when)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for statement in child.body:
                yield from _imports(ast.Module([statement], []), "types")
            for statement in child.orelse:
                yield from _imports(ast.Module([statement], []), when)
        else:
            yield from _imports(child, when)
