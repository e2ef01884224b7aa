"""A handler in a module that no installed app imports."""

from __future__ import annotations

from django.tasks import task


@task
def distant() -> None: ...
