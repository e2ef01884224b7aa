"""The migrations say what the models say, and an empty database takes them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import closing
from importlib import import_module
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import (
    AddField,
    AlterModelTable,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
)

import tasks.migrations
from tasks.models.task import database

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in Path(tasks.migrations.__path__[0]).glob("[0-9]*.py"))


@pytest.mark.django_db
def test_no_migration_is_missing() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db
def test_the_database_has_what_the_models_name() -> None:
    from django.apps import apps

    connection = connections[database()]
    with connection.cursor() as cursor:
        for model in apps.get_app_config("tasks").get_models():
            there = connection.introspection.get_constraints(cursor, model._meta.db_table)
            named = {index.name for index in model._meta.indexes}
            named |= {constraint.name for constraint in model._meta.constraints}
            assert named <= set(there)


@pytest.mark.parametrize("name", NAMES)
def test_a_migration_is_named_for_what_it_does(name: str) -> None:
    assert re.fullmatch(r"\d{4}_[a-z][a-z0-9_]+", name)
    assert "_auto_" not in name


def test_migrations_are_in_one_line() -> None:
    loader = MigrationLoader(None)

    assert len(loader.graph.leaf_nodes("tasks")) == 1
    assert [number[:4] for number in NAMES] == [f"{number:04}" for number in range(1, len(NAMES) + 1)]


@pytest.mark.parametrize("name", NAMES)
def test_a_release_that_does_not_know_a_migration_can_work_on_its_tables(name: str) -> None:
    """Its rows lack the new columns, and it uses all the old ones."""
    operations = import_module(f"tasks.migrations.{name}").Migration.operations

    added = [operation.field for operation in operations if isinstance(operation, AddField)]
    assert all(field.null or field.has_db_default() for field in added)
    taken_away = (DeleteModel, RemoveField, RenameField, RenameModel, AlterModelTable)
    assert not [operation for operation in operations if isinstance(operation, taken_away)]


def test_an_empty_database_migrates_and_can_be_emptied_again(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "new.db"
    env = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    env |= {"DB_PATH": str(path), "DJANGO_SETTINGS_MODULE": "tasks.tests.settings"}

    def migrate(*args: str) -> None:
        command = [sys.executable, "manage.py", "migrate", "--verbosity", "0", *args]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def tables() -> set[str]:
        with closing(sqlite3.connect(path)) as connection:
            return {
                name for [name] in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }

    migrate()
    migrate("--check")
    ours = {"tasks", "attempts", "queues", "workers"}
    assert ours <= tables()

    migrate("tasks", "zero")
    assert not ours & tables()
