"""``docs/guarantees.md`` names tests that exist, and has one for each promise."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tasks/tests"
PAGE = (ROOT / "docs/guarantees.md").read_text()
PROMISED, _, NOT_PROMISED = PAGE.partition("\n# What is not promised\n")
SECTIONS = dict(part.split("\n", 1) for part in PROMISED.split("\n## ")[1:])
NAMED = re.compile(r"^- `(?P<file>[\w/]+\.py)::(?P<name>test_\w+)`$", re.MULTILINE)


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    return frozenset(item.name for item in ast.walk(tree) if isinstance(item, ast.FunctionDef))


@pytest.mark.parametrize("promise", SECTIONS)
def test_each_promise_has_tests_and_each_of_them_exists(promise: str) -> None:
    named = NAMED.findall(SECTIONS[promise])

    assert named
    assert not [f"{file}::{name}" for file, name in named if name not in names_in(file)]


def test_whatever_looks_like_a_test_is_written_so_that_it_is_checked() -> None:
    assert len(NAMED.findall(PAGE)) == PAGE.count("::")


def test_the_readme_promises_what_the_page_does() -> None:
    readme = (ROOT / "README.md").read_text()
    [promises] = re.findall(r"\n## What is promised\n(.*?)\n## ", readme, re.DOTALL)

    assert "docs/guarantees.md" in promises
    assert set(re.findall(r"^- \*\*(.+?)\.\*\*", promises, re.MULTILINE)) <= set(SECTIONS)
    assert "exactly once" in NOT_PROMISED
