"""A module of grains_lens imports only from its own layer or a lower one, and there is no cycle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grains_lens

PACKAGE = Path(grains_lens.__file__).parent

# L0: what we need of a hooked model, and the only code that touches hooks.  L1: values and pure maths.
# L2: verbs on a model.  L3: faces.
LAYERS = {
    **dict.fromkeys(
        [
            "branches",
            "classes",
            "compiling",
            "errors",
            "hooks",
            "multimodal",
            "passes",
            "seam",
            "tokens",
            "turns",
            "writing",
        ],
        0,
    ),
    **dict.fromkeys(
        [
            "bos",
            "chats",
            "controlvector",
            "directions",
            "encoding",
            "gguffiles",
            "grids",
            "intervals",
            "markup",
            "named",
            "pairs",
            "positions",
            "quadrature",
            "rows",
            "rules",
            "selection",
            "splits",
            "strips",
            "tables",
            "tensorfiles",
            "token_attribution",
            "truthfulqa",
            "units",
            "vectors",
            "vision",
        ],
        1,
    ),
    **dict.fromkeys(
        [
            "attribution",
            "baselines",
            "comparison",
            "conductance",
            "disturbance",
            "embeddings",
            "evaluation",
            "extraction",
            "faithfulness",
            "finite",
            "fingerprint",
            "finetune",
            "gates",
            "greedy",
            "hallucination",
            "interop",
            "loading",
            "methods",
            "objective",
            "presets",
            "prompting",
            "residuals",
            "steering",
            "sweep",
            "tuning",
        ],
        2,
    ),
    **dict.fromkeys(["cli", "demo", "show", "worlds"], 3),
}
TOP = max(LAYERS.values())

# The facade, `grains_lens/__init__.py`, and names imported from it that have no module of their own.
FACADE = ""


def test_every_module_has_a_layer():
    for module in modules(PACKAGE):
        assert top_level(module) in LAYERS, (
            f"grains_lens.{module} is in no layer: list it in LAYERS in tests/test_layering.py."
        )


def test_modules_import_only_from_their_own_layer_or_lower_ones():
    for module, imported in edges(PACKAGE):
        layer = LAYERS[top_level(module)]
        above = TOP if imported == FACADE else LAYERS[top_level(imported)]
        assert above <= layer, (
            f"grains_lens.{module} (layer {layer}) imports grains_lens.{imported} (layer {above})."
        )


def test_no_modules_import_each_other_in_a_circle():
    assert cycle(graph(PACKAGE)) == []
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]


def cycle(imports) -> list[str]:
    """Modules that import each other in a circle, if there are any."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_the_check_sees_every_way_to_import(tmp_path):
    (tmp_path / "worlds").mkdir()
    (tmp_path / "__init__.pyi").write_text("from .steering import steering as steering\n")
    (tmp_path / "steering.py").write_text("def steering():\n    from . import pairs, rules as r\n")
    (tmp_path / "pairs.py").write_text("import grains_lens.rules\nfrom grains_lens import steering\n")
    (tmp_path / "rules.py").write_text("import grains_lens as gl\nfrom .worlds.train import fit\n")
    (tmp_path / "worlds" / "__init__.py").write_text(
        "from . import train\nfrom ..pairs import PreferencePair\n"
    )
    (tmp_path / "worlds" / "train.py").write_text("def fit():\n    from . import load\n")

    assert set(edges(tmp_path)) == {
        ("steering", "pairs"),
        ("steering", "rules"),
        ("pairs", "rules"),
        ("pairs", "steering"),
        ("rules", FACADE),
        ("rules", "worlds.train"),
        ("worlds", "worlds.train"),
        ("worlds", "pairs"),
        ("worlds.train", "worlds"),
    }


def graph(package: Path) -> dict[str, set[str]]:
    imports: dict[str, set[str]] = {}
    for module, imported in edges(package):
        if imported not in (FACADE, module):
            imports.setdefault(module, set()).add(imported)
    return imports


def edges(package: Path) -> Iterator[tuple[str, str]]:
    """Who imports whom within `package`, also inside functions and for type checking alone."""
    known = modules(package)
    public = dict(exports(package / "__init__.pyi"))
    for module, path in known.items():
        inside = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in imported_names(node, inside):
                yield module, resolve(name, known, public)


def imported_names(node: ast.AST, inside: list[str]) -> Iterator[str]:
    """What an import statement in the package `inside` names, as a dotted path below grains_lens."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            head, _, rest = alias.name.partition(".")
            if head == "grains_lens":
                yield rest
    elif isinstance(node, ast.ImportFrom):
        source = node.module.split(".") if node.module else []
        if node.level:
            source = inside[: len(inside) - node.level + 1] + source
        elif source[0] == "grains_lens":
            source = source[1:]
        else:
            return
        for alias in node.names:
            yield ".".join([*source, alias.name])


def resolve(name: str, known: dict[str, Path], public: dict[str, str]) -> str:
    """The module that `name`, a module or something in one, comes from."""
    name = public.get(name, name)
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def exports(stub: Path) -> Iterator[tuple[str, str]]:
    """Public names, each with where it comes from below grains_lens."""
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, ".".join(filter(None, [node.module, alias.name]))


def modules(package: Path) -> dict[str, Path]:
    """Every module below `package` but the facade, by its dotted name."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def top_level(module: str) -> str:
    return module.partition(".")[0]
