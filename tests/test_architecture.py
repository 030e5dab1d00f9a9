"""The source keeps to the order of its modules and to who alone may import what."""

import ast
import re
from pathlib import Path

import pytest

import saerec

PACKAGE = Path(__file__).parent.parent / "saerec"
ORDER = [*re.findall(r"^- `(\w+)`:", saerec.__doc__, re.MULTILINE), "__main__"]
IMPORT_NOTHING_OF_SAEREC = {"files", "validation", "model"}
KNOW_THE_WHOLE_PACKAGE = {"series", "__main__"}
KNOW_OF_NOTEBOOKS = {"exports", "runs", "index"} | KNOW_THE_WHOLE_PACKAGE
ALONE = {
    "torch": {
        "lists",
        "distributed",
        "batches",
        "checkpoints",
        "model",
        "metrics",
        "training",
        "choice",
        "original",
        "prediction",
        "layouts",
        "recommender",
        "loading",
        "peers",
        "storage",
    },
    "surprise": {"peers"},
    "implicit": {"peers"},
    "cornac": {"peers"},
    "lenskit": {"peers"},
    "matplotlib": {"plots"},
    "papermill": {"series"},
    "pyarrow": {"tables", "movielens", "synthetic"},
    "requests": {"fetch"},
    "safetensors": {"storage"},
    "filelock": {"files"},
    "nbformat": {"index"},
    "nbconvert": {"exports"},
}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imports(module: str) -> set[str]:
    """All that the module imports, at the top or inside functions: dotted names."""
    names = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = ".".join(filter(None, ["saerec" if node.level else "", node.module]))
            names |= {f"{source}.{alias.name}" for alias in node.names}
    return names


def test_there_are_modules_and_each_has_its_place():
    assert sorted(ORDER) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_modules_above(module):
    above = set() if module in IMPORT_NOTHING_OF_SAEREC else set(ORDER[: ORDER.index(module)])
    of_saerec = {name.split(".")[1] for name in imports(module) if name.startswith("saerec.")}
    assert of_saerec - {"__version__"} <= above
    assert "saerec" not in imports(module) or module in KNOW_THE_WHOLE_PACKAGE


@pytest.mark.parametrize("library", ALONE)
def test_only_some_import(library):
    importers = {module for module in MODULES if library in {name.split(".")[0] for name in imports(module)}}
    assert importers <= ALONE[library]


@pytest.mark.parametrize("module", sorted(set(MODULES) - KNOW_OF_NOTEBOOKS))
def test_does_not_know_of_notebooks(module):
    assert ".ipynb" not in (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
