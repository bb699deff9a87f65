"""The house stands: who may import whom, what never loads an extra, what is never done to bytes.

Lazy imports (inside functions) count for the direction of the layers, and so do those under TYPE_CHECKING: a module that
names a type of an upper layer knows that layer, whenever the name is resolved. TYPE_CHECKING does not count for cycles
and for extras: those are about what happens when the program runs.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.house import Import, imports, modules, room

BENEATH = {
    "": set(),
    "core": set(),
    "ledger": {"core"},
    "knowledge": {"core"},
    "vault": {"knowledge"},
    "learning": {"knowledge"},
    "exchange": {"vault", "learning", "ledger"},
    "paradigms": {"exchange"},
    "worlds": {"exchange"},
    "scenario": {"paradigms", "worlds"},
    "serving": {"paradigms", "worlds"},
    "cli": {"scenario", "serving"},
}
"""The arrows of the house: a package may import what stands right beneath it, and what stands beneath that."""

EXTRAS = ("torch", "sklearn", "scipy", "matplotlib", "onnx", "onnxruntime", "onnxscript", "openvino")
LIGHT = ("core", "ledger", "knowledge", "vault", "exchange", "paradigms", "worlds", "scenario", "serving", "cli")
"""Packages that must work without any extra: all but learning, whose adapters are loaded when they are used."""

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "random"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_NAMES = {"ProcessPoolExecutor"}
"""It pickles what it sends."""

PICKLERS = {("torch", "load"), ("torch", "save"), ("np", "save"), ("np", "load"), ("numpy", "load")}
"""Calls that pickle unless they are told not to."""

LEGACY_RANDOM = {
    "seed",
    "rand",
    "randn",
    "randint",
    "random",
    "choice",
    "shuffle",
    "permutation",
    "normal",
    "uniform",
    "default_rng",
}
"""numpy's global generator, and the constructor that would seed itself from the operating system."""

WATCHES_RANDOMNESS = {"kuberml.worlds.simulated.audit"}
"""It imports `random` in order to catch those who use it."""


def allowed(package: str) -> set[str]:
    """All that a package may import: itself and everything beneath it."""
    return {package, ""}.union(*(allowed(lower) for lower in BENEATH[package])) if BENEATH[package] else {package, ""}


def test_every_package_has_its_place() -> None:
    assert {module.package for module in modules().values()} == set(BENEATH)


@pytest.mark.parametrize("package", [name for name in BENEATH if name])
def test_imports_point_down(package: str) -> None:
    upward = [
        f"{name}:{item.line} imports {item.name}"
        for name, module in modules().items()
        if module.package == package
        for item in imports(name)
        if item.name.split(".")[0] == "kuberml" and room(item.name) not in allowed(package)
    ]
    assert upward == []


def test_the_walk_sees_lazy_and_local_imports_and_those_for_types(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import a\nif TYPE_CHECKING:\n    import b\nelse:\n    import c\ntry:\n    import d\nexcept ImportError:\n    pass\n"
    text += "def f():\n    import e\n    if TYPE_CHECKING:\n        from kuberml.core import ids\nclass C:\n    import g\n"
    monkeypatch.setitem(modules(), "kuberml.made", modules()["kuberml"]._replace(name="kuberml.made", tree=ast.parse(text)))
    assert imports.__wrapped__("kuberml.made") == (
        Import("a", "module", 1), Import("b", "types", 3), Import("c", "module", 5), Import("d", "module", 7),
        Import("e", "call", 11), Import("kuberml.core.ids", "types", 13), Import("g", "module", 15),
    )  # fmt: skip


def running_imports(name: str) -> Iterator[str]:
    """What importing this module imports at once."""
    return (item.name for item in imports(name) if item.when == "module")


def test_no_module_waits_for_itself() -> None:
    graph = {name: {other for other in running_imports(name) if other in modules()} - {name} for name in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' <- '.join(error.args[1])}")


def test_packages_do_not_import_each_other_even_lazily() -> None:
    graph = {
        package: {room(item.name) for name, module in modules().items() if module.package == package for item in imports(name)
                  if item.name.split(".")[0] == "kuberml"} - {package}
        for package in BENEATH
    }  # fmt: skip
    TopologicalSorter(graph).prepare()


def reached(start: str) -> set[str]:
    """Everything that is imported when `start` is: its parents, what they import, and so on."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += [name.rpartition(".")[0]] if "." in name else []
            todo += running_imports(name) if name in modules() else []
    return seen


@pytest.mark.parametrize("package", LIGHT)
def test_no_extra_is_imported_before_it_is_used(package: str) -> None:
    heavy = {
        f"{name} reaches {other}"
        for name, module in modules().items()
        if module.package == package
        for other in reached(name)
        if other.split(".")[0] in EXTRAS
    }
    assert heavy == set()


def test_the_light_packages_really_start_without_extras() -> None:
    """The walk cannot see a loader that runs too early, so one process imports them all with the extras missing."""
    names = [name for name, module in modules().items() if module.package in LIGHT and not name.endswith("__main__")]
    hide = f"import sys\nfor extra in {EXTRAS!r}: sys.modules[extra] = None\n"
    code = hide + f"import importlib\nfor name in {names!r}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def offences(name: str) -> Iterator[str]:
    """What this module does that no module may."""
    for item in imports(name):
        if item.name.split(".")[0] in FORBIDDEN_MODULES and name not in WATCHES_RANDOMNESS:
            yield f"{name}:{item.line} imports {item.name}"
    for node in ast.walk(modules()[name].tree):
        if isinstance(node, ast.Call):
            yield from (f"{name}:{node.lineno} {what}" for what in _call(node))
        if isinstance(node, ast.Name | ast.Attribute) and getattr(node, "id", getattr(node, "attr", "")) in FORBIDDEN_NAMES:
            yield f"{name}:{node.lineno} uses {ast.unparse(node)}"


def _call(node: ast.Call) -> Iterator[str]:
    called = node.func
    if isinstance(called, ast.Name) and called.id in FORBIDDEN_CALLS:
        yield f"calls {called.id}"
    if not isinstance(called, ast.Attribute):
        return
    owner = ast.unparse(called.value)
    plain = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}.get("allow_pickle") == "False"
    if (owner, called.attr) in PICKLERS and not plain:
        yield f"calls {owner}.{called.attr} without allow_pickle=False"
    if owner in {"np.random", "numpy.random"} and called.attr in LEGACY_RANDOM:
        yield f"calls {owner}.{called.attr}: randomness comes from core.rng"


def test_nothing_is_unpickled_evaluated_or_drawn_from_a_global_generator() -> None:
    assert [offence for name in modules() for offence in offences(name)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from marshal import loads",
        "def f():\n    import shelve",
        "eval('1')",
        "exec('1')",
        "__import__('os')",
        "import numpy as np\nnp.load('x', mmap_mode='r')",
        "np.load('x', allow_pickle=True)",
        "torch.load('x')",
        "torch.save(1, 'x')",
        "np.random.seed(0)",
        "np.random.default_rng()",
        "import random",
        "from concurrent.futures import *\nProcessPoolExecutor()",
    ],
)
def test_each_offence_is_seen(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(modules(), "kuberml.made", modules()["kuberml"]._replace(name="kuberml.made", tree=ast.parse(text)))
    imports.cache_clear()
    assert list(offences("kuberml.made"))
    imports.cache_clear()


@pytest.mark.parametrize("package", ["exchange", "exchange.delivery"])
def test_an_index_names_every_module_of_its_package(package: str) -> None:
    """Words of the index are enough: what it says of each is for readers."""
    inside = f"kuberml.{package}."
    names = {name.removeprefix(inside).split(".")[0] for name in modules() if name.startswith(inside)}
    index = ast.get_docstring(modules()[f"kuberml.{package}"].tree, clean=False) or ""
    rows = " ".join(line for line in index.split("\n") if line.startswith("    "))
    assert names - set(re.findall(r"\w+", rows)) == set()
