from __future__ import annotations

from django.apps import AppConfig


class AnticsConfig(AppConfig):
    name = "tasks.tests.antics"

    def ready(self) -> None:
        from tasks.tests.antics import receivers  # noqa: F401 - connected by being imported
