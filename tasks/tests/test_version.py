"""What a worker's code is called: the same for the same code, another for any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from tasks import version
from tasks.conf import config
from tasks.version import code_version


def test_the_same_code_has_the_same_name() -> None:
    assert code_version() == code_version()
    assert len(code_version()) == version.DIGITS


def test_whoever_deploys_it_may_name_it() -> None:
    given = {**{name: getattr(config(), name) for name in config().__slots__}, "version": "2026.1"}

    with override_settings(TASKSERVICE=given):
        assert code_version() == "2026.1"


@pytest.mark.parametrize("change", ["text", "name", "more"])
def test_a_change_of_any_file_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    first = tmp_path / "tasks.py"
    first.write_text("a")

    def files() -> Iterator[Path]:
        yield from sorted(tmp_path.iterdir())

    monkeypatch.setattr(version, "_files", files)
    before = code_version()
    match change:
        case "text":
            first.write_text("b")
        case "name":
            first.rename(tmp_path / "other.py")
        case _:
            (tmp_path / "more.py").write_text("")

    assert code_version() != before


def test_it_is_of_this_service_and_of_the_apps_that_bring_handlers() -> None:
    found = {path.as_posix() for path in version._files()}

    for part in ("tasks/worker/dispatcher.py", "tasks/handlers.py", "tasks/registry.py"):
        assert [path for path in found if path.endswith(part)], part
    assert not [path for path in found if "/migrations/" in path]
