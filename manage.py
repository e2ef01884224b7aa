#!/usr/bin/env python
"""Django's command line; a bad setting ends it with one sentence."""

from __future__ import annotations

import os
import signal
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "taskservice.settings")
    if sys.argv[1:2] == ["runworkers"]:  # until it listens itself, there is nothing to bring to an end
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda *_: os._exit(0))
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"manage.py: {error}")


if __name__ == "__main__":
    main()
