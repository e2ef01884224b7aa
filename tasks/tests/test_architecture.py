"""Who imports whom, who writes status, and how large a thing may grow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tasks

PACKAGE = Path(tasks.__file__).parent
ROOT = PACKAGE.parent

VALUES = {
    "states", "contract", "decide", "backoff", "ids", "errors", "conf", "registry", "handlers", "logs",
    "context", "results", "limits", "specs", "storable", "grants", "members", "locality", "unique",
    "quantiles", "rates", "spans", "tally", "tracing", "otel", "addresses", "search", "fingerprint",
    "masking", "version",
}  # fmt: skip
ROWS = {
    "models", "statements", "book", "clock", "bell", "sqlite", "postgres", "postgresql", "redis_bell",
    "migrations",
}  # fmt: skip
VERBS = {"lifecycle"}
EXTRAS = {
    "stats", "tokens", "logins", "pending", "filtering", "resource", "totals", "gauges", "matching",
    "selection", "operations", "tasks", "failures", "rollups", "depths", "queues",
}  # fmt: skip
RUNTIME = {"worker"}
DOORS = {
    "api", "admin", "templatetags", "backend", "testing", "ops", "management", "serve", "checks", "apps",
}  # fmt: skip
LAYERS = [VALUES, ROWS, VERBS, EXTRAS, RUNTIME, DOORS]  # lowest first
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}

# An app registers its checks, commands hand over to what they start, and tags are the admin's.
DOORS_INTO_DOORS = {
    ("apps", "checks"),
    ("management", "serve"),
    ("management", "checks"),
    ("templatetags", "admin"),
}
HOT_READS = {"ready_queues", "paused_queues"}  # of the hot statements, whoever may ask

LINES_OF_A_FILE = 300
LINES_OF_A_FUNCTION = 45


def modules() -> list[Path]:
    found = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
    return sorted(path for path in found if path.parts[0] not in {"tests", "__init__.py"})


MODULES = modules()


def part_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text())


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a module imports, wherever in it; those under TYPE_CHECKING as well."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_parts(path: Path) -> set[str]:
    """The parts of ``tasks`` that a module imports: ``tasks.models.task.Task`` is of ``models``."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("tasks.")}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_every_part_has_its_layer(path: Path) -> None:
    assert part_of(path) in RANK


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_downwards(path: Path) -> None:
    here = part_of(path)

    upward = {there for there in imported_parts(path) if RANK[there] > RANK[here]}

    assert not upward, f"{here} must not import {', '.join(sorted(upward))}"


@pytest.mark.parametrize("path", [path for path in MODULES if part_of(path) in DOORS], ids=str)
def test_doors_never_import_one_another(path: Path) -> None:
    here = part_of(path)

    others = {there for there in imported_parts(path) if there in DOORS and there != here}

    assert not {there for there in others if (here, there) not in DOORS_INTO_DOORS}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_nothing_imports_the_project(path: Path) -> None:
    assert not [name for name in imported(path) if name.split(".")[0] == "taskservice"]


@pytest.mark.parametrize("path", [path for path in MODULES if part_of(path) in VALUES], ids=str)
def test_values_know_no_query_and_no_request(path: Path) -> None:
    heavy = ("django.db.transaction", "django.http", "rest_framework")

    assert not [name for name in imported(path) if name.startswith(heavy)]


@pytest.mark.parametrize("path", [path for path in MODULES if part_of(path) in RUNTIME], ids=str)
def test_workers_know_nothing_of_http(path: Path) -> None:
    heavy = ("django.http", "django.urls", "rest_framework")

    assert not [name for name in imported(path) if name.startswith(heavy)]


def test_only_lifecycle_writes_status() -> None:
    """By ``move`` and by the hot statements, and nobody else."""
    for path in MODULES:
        if part_of(path) not in {"lifecycle", "models", "book"}:
            tree = tree_of(path)
            assert not list(status_writes(tree)), path
            assert hot_statements(tree) <= HOT_READS, path
            assert part_of(path) in EXTRAS or "tasks.book.Book" not in imported(path), path


def status_writes(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls of ``.move(…)``, and of anything that is called ``update`` or ``create`` with a ``status``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            names = {keyword.arg for keyword in node.keywords}
            if node.func.attr == "move" or (node.func.attr in {"update", "create"} and "status" in names):
                yield node


def hot_statements(tree: ast.Module) -> set[str]:
    """What is called of a ``Book``; "?" when one is kept for who knows what."""
    asked = {
        node.value: node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call)
    }
    made = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Book"
    ]
    return {asked.get(book, "?") for book in made}


@pytest.mark.parametrize("path", [path for path in MODULES if part_of(path) != "migrations"], ids=str)
def test_nothing_grows_too_large(path: Path) -> None:
    assert len((PACKAGE / path).read_text().splitlines()) <= LINES_OF_A_FILE

    long = [
        node.name
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LINES_OF_A_FUNCTION
    ]
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_annotations_are_not_run(path: Path) -> None:
    has_code = any(not isinstance(node, ast.Expr) for node in tree_of(path).body)

    assert not has_code or part_of(path) == "migrations" or "__future__.annotations" in imported(path)


@pytest.mark.parametrize("word", ["utils", "helpers", "common", "base", "manager", "services", "misc"])
def test_no_module_has_a_name_that_says_nothing(word: str) -> None:
    named = [path for path in MODULES if path.stem == word or word in path.parts[:-1]]

    djangos = [Path("postgresql/base.py"), Path("sqlite/base.py")]  # a backend has to have one
    assert named == (djangos if word == "base" else [])
