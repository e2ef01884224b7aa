"""Settings under which gunicorn serves what POST /tasks is compared with: ``yardstick_urls``.

The same settings, the same database behind the same gate, and the same gunicorn.
"""

from __future__ import annotations

from taskservice.settings import *  # noqa: F403 - all of them but one

ROOT_URLCONF = "bench.yardstick_urls"
