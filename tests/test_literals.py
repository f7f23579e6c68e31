"""Closed sets of names stand in one module, which costs nothing to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest

import grains_lens
from grains_lens import literals
from grains_lens.attribution.methods import AttributionMethod
from grains_lens.cli import objects, options

PACKAGE = Path(grains_lens.__file__).parent
SETS = {name: value for name, value in vars(literals).items() if get_origin(value) is Literal}
NOT_OURS = {"show/strip.py"}  # a line style, which matplotlib names


def test_importing_the_names_imports_neither_torch_nor_transformers():
    script = (
        "import sys, grains_lens.literals; "
        "print([name for name in ('torch', 'transformers', 'transformer_lens', 'numpy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    tree = ast.parse(Path(literals.__file__).read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "typing"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))


def test_no_other_module_writes_a_closed_set_of_names():
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if closed_sets(path.read_text(encoding="utf-8"))
    }
    assert found - NOT_OURS == {"literals.py"}
    assert closed_sets('def f(x: "int", y: Literal["a"]): ...') == closed_sets('X = t.Literal["a"]') == 1
    assert closed_sets('X = Mapping["a", "b"]') == 0


def closed_sets(source: str) -> int:
    """How many Literals a module writes."""
    return sum(
        isinstance(node, ast.Subscript)
        and getattr(node.value, "id", getattr(node.value, "attr", "")) == "Literal"
        for node in ast.walk(ast.parse(source))
    )


@pytest.mark.parametrize("name", SETS)
def test_a_set_holds_each_name_once_and_no_other_set_is_the_same(name):
    names = get_args(SETS[name])
    assert len(names) == len(set(names)) > 1
    assert all(isinstance(one, str) for one in names)
    assert [other for other in SETS if set(get_args(SETS[other])) == set(names)] == [name]


@pytest.mark.parametrize("method", get_args(literals.MethodName))
def test_every_method_of_the_command_line_is_one_of_the_librarys(method):
    made = objects.method_of(options.Scoring(method=method))
    assert isinstance(made, AttributionMethod)


def test_the_worlds_that_are_named_are_those_that_ship():
    assert set(get_args(literals.WorldName)) == {one.name for one in grains_lens.worlds.available()}
