"""Which code a process runs: told by whoever deployed it, or else a digest of what is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from django.apps import apps

from tasks import registry
from tasks.conf import config

DIGITS = 10
LEFT_OUT = frozenset({"tests", "migrations", "node_modules"})  # folders that no handler runs from


def code_version() -> str:
    """``TASKSERVICE_VERSION``; else the same for the same code of this service and of all its handlers."""
    return config().version or _digest(_files())


def _files() -> Iterator[Path]:
    """Of the apps that bring handlers, and of this one; of a handler in no app, its module."""
    modules = {registry.find(name).func.__module__ for name in registry.known()}
    homes = {apps.get_containing_app_config(f"{module}.x") for module in (*modules, __name__)}
    for home in sorted({Path(app.path) for app in homes if app}):
        yield from (
            path for path in sorted(home.rglob("*.py")) if not LEFT_OUT & {*path.relative_to(home).parts}
        )
    for module in sorted(name for name in modules if apps.get_containing_app_config(f"{name}.x") is None):
        if path := getattr(sys.modules.get(module), "__file__", None):
            yield Path(path)


def _digest(files: Iterator[Path]) -> str:
    digest = sha256()
    for path in files:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:DIGITS]
