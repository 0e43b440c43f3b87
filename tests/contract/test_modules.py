"""What every module keeps to."""

import ast
import importlib
import inspect
import pickle
import pkgutil
import warnings
from pathlib import Path

import pytest

from config.errors import NodeError
from tests.contract.tree import PACKAGES, ROOT, modules

LINES_ASKED = 400
LINES_MAX = 500


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def test_every_package_has_modules() -> None:
    """A rule over an empty folder is always kept."""
    assert {path.parts[0] for path in modules()} == set(PACKAGES)


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(path) for path in modules() if not ast.get_docstring(parsed(path))]
    # Alembic's own template gives each migration its docstring; they are held to it too.
    assert silent == []


def test_an_init_is_a_docstring_and_no_more() -> None:
    """Else importing one module of a package loads others, and "loads no torch" is no longer true."""
    busy = [str(path) for path in modules() if path.name == "__init__.py" and len(parsed(path).body) != 1]
    assert busy == []


def test_no_module_grows_past_its_subject() -> None:
    lines = {str(path): (ROOT / path).read_text(encoding="utf-8").count("\n") for path in modules()}
    for path, count in lines.items():
        if LINES_ASKED < count <= LINES_MAX:
            warnings.warn(f"{path} has {count} lines, {LINES_ASKED} are asked for", UserWarning, stacklevel=1)
    assert {path: count for path, count in lines.items() if count > LINES_MAX} == {}


# Exceptions of no tree that another module knows, each with its reason.
SIGNALS = {
    "Unwritten": "rolls a transaction of the ledger back until its journal lines are synced; never leaves the ledger",
}


def test_an_error_that_leaves_its_module_derives_from_node_error() -> None:
    """What another module may catch, or a person read, says what happened, to which key, and what to do."""
    trees = {path: parsed(path) for path in modules()}
    imported = {
        alias.name
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    stray = [
        f"{path}: {node.name}"
        for path, tree in trees.items()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and _is_plain_exception(node)
        if node.name in imported - {"NodeError", *SIGNALS}
    ]
    assert stray == []


def _is_plain_exception(node: ast.ClassDef) -> bool:
    bases = [ast.unparse(base) for base in node.bases]
    builtin = getattr(__import__("builtins"), bases[0], None) if bases else None
    return isinstance(builtin, type) and issubclass(builtin, Exception)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_errors_of_a_package_stand_in_the_tree_at_the_top_of_its_file(package: str) -> None:
    module = importlib.import_module(f"{package}.errors")
    defined = [
        name
        for name, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, NodeError) and found.__module__ == module.__name__
    ]
    assert defined
    tree = module.__doc__ or ""
    assert [name for name in defined if name not in tree.replace("(", " ").split()] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_error_survives_a_process_boundary(package: str) -> None:
    module = importlib.import_module(f"{package}.errors")
    for _, found in inspect.getmembers(module, inspect.isclass):
        if issubclass(found, NodeError) and found.__module__ == module.__name__:
            words = [name for name in inspect.signature(found).parameters if name not in ("args", "kwargs")]
            error = found(*words)
            again = pickle.loads(pickle.dumps(error))
            assert (type(again), vars(again), str(again)) == (found, vars(error), str(error))


def test_every_module_can_be_imported() -> None:
    """Also those that no test names. Entry points do nothing when they are only imported; migrations need Alembic."""
    for package in PACKAGES:
        folder = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(folder, f"{package}."):
            if not module.name.startswith("storage.migrations."):
                importlib.import_module(module.name)
