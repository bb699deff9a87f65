"""Public names say units, shapes and errors, and docstrings say what the names cannot.

Public is what has no leading underscore on its way: modules, their functions and classes, methods, parameters, fields.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.house import modules

FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef

QUANTITIES = {
    *("timeout", "delay", "duration", "deadline", "interval", "period", "latency", "elapsed", "wait", "time", "age"),
    *("size", "bytes", "budget", "capacity", "rate", "bandwidth", "throughput", "speed", "frequency"),
    *("energy", "power", "distance"),
}
"""Words that mean a number with a unit."""

UNITS = {"s", "ms", "ns", "bytes", "bits", "bps", "bytes_s", "per_s", "hz", "j", "mj", "w", "flops", "m", "ppm", "log2"}
"""What a name ends with when it says its unit. `ppm` is that of a share, `log2` that of a step."""

NO_UNIT = {
    "delay": "asyncio's own name in `call_later`, which a loop must take by keyword",
}
"""Names that are terms of the field and have no unit."""

NO_SHAPE = {
    "state": "belongs to its learner: nobody else may know what is inside",
    "values": "of any shape: what is done is done to every element",
    "x": "what torch calls the input of a module of any shape",
}
"""Names of arrays whose shape is not fixed."""

SILENT = "kuberml.cli."
"""The docstring of a command is its help text; its errors are printed, with the exit status."""

FAULTS = {"ConfigError", "MissingExtra", "RemoteError", "Unreachable", "InternalError"}
SHAPE = re.compile(r"_([A-Z]|d|k){1,5}$")
"""One letter for each axis: capitals for what is counted (N samples, C classes), d and k for features and projected ones."""

ELSEWHERE = ("See ", "As `")
"""How a docstring begins that sends the reader to where the contract stands."""

FILLERS = {
    "a",
    "an",
    "the",
    "of",
    "to",
    "for",
    "in",
    "on",
    "by",
    "with",
    "and",
    "or",
    "is",
    "are",
    "this",
    "it",
    "its",
    "one",
    "all",
}


class Object(NamedTuple):
    """A public function or class."""

    place: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    outer: str

    @property
    def text(self) -> str:
        """Its docstring."""
        return ast.get_docstring(self.node) or ""


def public() -> Iterator[Object]:
    """All public functions, classes and methods; `__init__` counts, other magic methods say what they are."""
    for name, module in modules().items():
        if not any(part.startswith("_") for part in name.split(".")):
            yield from _public(module.tree, f"{name}:", "")


def _public(node: ast.Module | ast.ClassDef, prefix: str, outer: str) -> Iterator[Object]:
    for child in node.body:
        if isinstance(child, FUNCTION | ast.ClassDef) and (not child.name.startswith("_") or child.name == "__init__"):
            yield Object(prefix + child.name, child, outer)
            if isinstance(child, ast.ClassDef):
                yield from _public(child, f"{prefix}{child.name}.", child.name)


def variables() -> Iterator[tuple[str, str, str]]:
    """(place, name, annotation) of every public parameter and annotated field."""
    for thing in public():
        if isinstance(thing.node, ast.ClassDef):
            for line in thing.node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and not line.target.id.startswith("_"):
                    yield thing.place, line.target.id, ast.unparse(line.annotation)
        else:
            given = thing.node.args
            for parameter in [*given.posonlyargs, *given.args, *given.kwonlyargs]:
                if parameter.annotation is not None and not parameter.arg.startswith("_"):
                    yield thing.place, parameter.arg, ast.unparse(parameter.annotation)


def lacks_unit(name: str, annotation: str) -> bool:
    """Is it a number that has a unit which the name does not say?"""
    words = SHAPE.sub("", name).lower().removesuffix("_std").split("_")
    if not QUANTITIES & set(words) or name in NO_UNIT or not re.search(r"\b(int|float)\b", annotation):
        return False
    if words[0] == "bytes":  # bytes_moved, bytes_to_target: the unit is the noun
        return False
    return not any("_".join(words[-length:]) in UNITS for length in range(1, min(4, len(words)) + 1))


def array_types() -> set[str]:
    """Names of array types: numpy's, torch's, and the aliases that modules give them."""
    found = {"ndarray", "NDArray", "Tensor"}
    for module in modules().values():
        for line in module.tree.body:
            if (
                isinstance(line, ast.Assign)
                and isinstance(line.targets[0], ast.Name)
                and is_array(ast.unparse(line.value), found)
            ):
                found.add(line.targets[0].id)
    return found


def is_array(annotation: str, types: set[str]) -> bool:
    """Is this the annotation of one array (or none), not of a container of arrays?"""
    bare = re.sub(r"\[.*\]", "", annotation).removesuffix(" | None").strip("'\"")
    return bare.rpartition(".")[2] in types


def restates(name: str, outer: str, text: str) -> bool:
    """Does the first paragraph say nothing but the words of the name?"""
    known = {_stem(word) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", f"{name} {outer}")}
    said = {_stem(word) for word in re.findall(r"\w+", text.partition("\n\n")[0]) if word.lower() not in FILLERS}
    return said <= known


def _stem(word: str) -> str:
    return re.sub(r"(ing|ed|es|s|e)$", "", word.lower())


def test_numbers_with_a_unit_name_it() -> None:
    assert [f"{place} {name}: {kind}" for place, name, kind in variables() if lacks_unit(name, kind)] == []


def test_arrays_name_their_shape() -> None:
    types = array_types()
    arrays = [(place, name) for place, name, kind in variables() if is_array(kind, types)]
    assert [f"{place} {name}" for place, name in arrays if not SHAPE.search(name) and name not in NO_SHAPE] == []


def test_what_raises_says_so() -> None:
    texts = {thing.place: thing.text for thing in public()}
    silent = []
    for thing in public():
        if isinstance(thing.node, ast.ClassDef) or thing.place.startswith(SILENT):
            continue
        text = thing.text + (texts.get(thing.place.removesuffix(".__init__"), "") if thing.node.name == "__init__" else "")
        raised = set(_raised(thing.node))
        if raised and not any(error in text for error in (*raised, "Raises")) and not text.startswith(ELSEWHERE):
            silent.append(f"{thing.place} raises {', '.join(sorted(raised))}")
    assert silent == []


def _raised(function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = ast.unparse(node.exc.func).rpartition(".")[2]
            if name in FAULTS:
                yield name


def test_docstrings_say_more_than_the_name() -> None:
    bare = [f"{thing.place}: {thing.text!r}" for thing in public() if thing.node.name != "__init__" and not thing.text]
    assert bare == []
    idle = [
        f"{thing.place}: {thing.text!r}"
        for thing in public()
        if thing.text and restates(thing.node.name, thing.outer, thing.text)
    ]
    assert idle == []


def test_the_exceptions_are_still_needed() -> None:
    assert {*NO_SHAPE, *NO_UNIT} <= {name for _, name, _ in variables()}


def test_the_rules_see_what_they_are_for() -> None:
    assert lacks_unit("timeout", "float")
    assert lacks_unit("max_size", "int | None")
    assert not lacks_unit("timeout_s", "float")
    assert not lacks_unit("size_bytes", "int")
    assert not lacks_unit("budget", "Budget")
    assert is_array("np.ndarray[Any, Any] | None", {"ndarray"})
    assert not is_array("dict[str, np.ndarray]", {"ndarray"})
    assert all(SHAPE.search(name) for name in ("x_N", "x_ND", "sums_dC", "gram_dd", "x_NCHW", "weights_P"))
    assert not any(SHAPE.search(name) for name in ("x", "features", "x_train", "weights_new", "y_true"))
    assert restates("delete_node", "", "Delete a node.")
    assert restates("store", "Message", "Store one Message.")
    assert not restates("delete_node", "", "Forget a node and everything it published.")
