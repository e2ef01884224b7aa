"""The programs of docs/examples.md, each run against a service: they print what the page says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from tasks.tests.service import Serve, serve, where

__all__ = ["serve", "where"]

PAGE = Path(settings.BASE_DIR) / "docs/examples.md"
CLIENT = Path(settings.BASE_DIR) / "clients/python/src"
EXAMPLES = re.findall(
    r"^## (.+?)\n(?:(?!^## ).*\n)*?```(\w+)\n((?:(?!```).*\n)+)```\n\n```text\n((?:(?!```).*\n)+)```",
    PAGE.read_text(),
    re.MULTILINE,
)
COMMANDS = {
    "sh": ["sh"],
    "python": [sys.executable],
    "js": ["node"],
    "go": ["go", "run"],
}


@pytest.mark.parametrize(
    ("title", "language", "program", "printed"), EXAMPLES, ids=[it[0] for it in EXAMPLES]
)
def test_an_example_prints_what_the_page_says(
    serve: Serve, tmp_path: Path, title: str, language: str, program: str, printed: str
) -> None:
    command, file = COMMANDS[language], tmp_path / f"example.{language}"
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]} is installed")
    url = serve().url
    assert program.count("http://localhost:8080") == 1
    file.write_text(program.replace("http://localhost:8080", url))
    env = {**os.environ, "PYTHONPATH": str(CLIENT), "GOCACHE": str(tmp_path / "go"), "NO_PROXY": "127.0.0.1"}

    ran = subprocess.run([*command, file], env=env, capture_output=True, text=True, timeout=120)

    assert (ran.returncode, ran.stdout) == (0, printed), ran.stderr


def test_every_program_of_the_page_is_run() -> None:
    programs = re.findall(r"^```(\w+)$", PAGE.read_text(), re.MULTILINE)

    assert [language for _, language, *_ in EXAMPLES] == [it for it in programs if it != "text"]
