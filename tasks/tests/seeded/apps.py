from __future__ import annotations

import os

from django.apps import AppConfig


class SeededConfig(AppConfig):
    name = "tasks.tests.seeded"

    def ready(self) -> None:
        from tasks.tests.seeded.bugs import BUGS

        for name in os.environ["SEEDED_BUGS"].split(","):
            BUGS[name].plant()
