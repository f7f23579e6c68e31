"""Every public name has its place in the API reference, and its docstring says what it raises."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

import grains_lens

ROOT = Path(grains_lens.__file__).parent.parent
MODULES = {
    name: module
    for name in grains_lens.__all__
    if isinstance(module := getattr(grains_lens, name), ModuleType)
}
PUBLIC = {
    **{
        f"grains_lens.{name}": getattr(grains_lens, name)
        for name in grains_lens.__all__
        if name not in MODULES
    },
    **{
        f"grains_lens.{module}.{name}": getattr(MODULES[module], name)
        for module in MODULES
        for name in MODULES[module].__all__
    },
}
# They raise ValueError for pairs, questions, names and layers that cannot be.
CHECKS = ("encode", "encode_prompts", "encode_for", "encode_prompts_for", "check_objective", "check_layers")
# What is called: functions, and the methods of classes that are ours to describe.
CALLED = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)} | {
    f"{name}.{member}": value
    for name, owner in PUBLIC.items()
    if inspect.isclass(owner)
    for member, value in vars(owner).items()
    if not member.startswith("_")
    and (inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod))
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    out = tmp_path_factory.mktemp("docs")
    subprocess.run([sys.executable, ROOT / "docs" / "build.py", out], check=True, capture_output=True)
    return {
        ".".join(path.relative_to(out).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in out.rglob("*.html")
    }


def test_every_public_name_is_in_the_reference_with_its_docstring(pages):
    missing = []
    for name, value in PUBLIC.items():
        module, _, own = name.rpartition(".")
        words = (
            re.findall(r"[a-z]{3,}", (inspect.getdoc(value) or "").partition("\nArgs:")[0])[:8]
            if callable(value)
            else []
        )
        if inspect.isclass(value) and value.__name__ != own:  # a name of before, which leads to today's
            words = [value.__name__]
        section = pages[module].partition(f'id="{own}"')[2]
        if not section or not all(word in section for word in words):
            missing.append(name)
    assert not missing
    assert set(MODULES) <= {page.rpartition(".")[2] for page in pages}


def reference():
    """docs/build.py, which is no package's."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_in_exactly_one_group_of_the_reference():
    names = [name for group in reference().GROUPS.values() for name in group.split()]
    public = [*MODULES, *(name.removeprefix("grains_lens.") for name in PUBLIC)]
    assert len(names) == len(set(names))
    assert set(names) == set(public), "GROUPS in docs/build.py is where a public name gets its place."


def test_the_reference_has_names_in_their_groups_and_main_verbs_first(pages):
    for module, groups in reference().grouped().items():
        own = [name for _, names in groups for name in names]
        ids = re.findall(r'<section id="(\w+)">', pages[module])
        assert ids == own
        titles = re.findall(r'<h2 class="group" id="[\w-]+">([\w ]+)</h2>', pages[module])
        assert titles == [title for title, _ in groups]
    main = pages["grains_lens"]
    assert (
        main.index('id="group-attribution"') < main.index('id="attribute"') < main.index('id="Attributions"')
    )
    assert main.index('id="group-pictures"') < main.index('href="grains_lens/show.html#token_strip"')


def test_parameter_lists_are_lists_in_the_reference(pages):
    strip = pages["grains_lens.show"].partition('id="token_strip"')[2].partition("</section>")[0]
    assert re.search(r"<h6[^>]*>Arguments:</h6>\s*<ul>\s*<li><strong>attributions:</strong>", strip)


def test_pages_need_nothing_from_outside(pages):
    for page in pages.values():
        assert not re.findall(r'<(?:script|img|link)[^>]*(?:src|href)="(?:https?:)?//', page)


@pytest.mark.parametrize("name", CALLED)
def test_whatever_is_called_is_documented_and_names_what_it_raises(name):
    value = CALLED[name]
    documentation = inspect.getdoc(value)
    assert documentation, f"{name} has no docstring."
    silent = [error for error in raised_by(value) if error not in documentation]
    assert not silent, f"{name} raises {silent}, of which its docstring does not tell."


# A function that makes one, and a kind of it that users need not know.
VALUE_ERRORS = dict.fromkeys(("unknown_name", "NotFiniteError"), "ValueError")


def raised_by(value: object) -> set[str]:
    """The kinds of errors in a function's own `raise` statements, and in those of the checks it begins with."""
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    kinds = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
        ):
            kinds.add(VALUE_ERRORS.get(node.exc.func.id, node.exc.func.id))
        elif (
            isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in CHECKS
        ):
            kinds.add("ValueError")
    return kinds


def test_the_check_sees_what_a_function_raises():
    def one(x: int) -> int:
        if x:
            raise ValueError("no")
        raise TypeError("nor this")

    assert raised_by(one) == {"ValueError", "TypeError"}


# What is called with arguments and is not a method; `help` shows classes by their own docstrings.
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_of_a_public_function_is_explained(name):
    taken = list(inspect.signature(inspect.unwrap(FUNCTIONS[name])).parameters)
    section = re.search(
        r"^Args:\n((?:[ ]+.*\n?|\n)*)", inspect.getdoc(FUNCTIONS[name]) or "", flags=re.MULTILINE
    )
    explained = re.findall(r"^    (\w+): \S", section[1], flags=re.MULTILINE) if section else []
    assert explained == taken, f"{name}: its Args: section has to name its parameters, in their order."
