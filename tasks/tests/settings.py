"""The service's settings, with its database where other processes can open it.

That is a file in a temporary folder, or with ``TEST_DATABASE=postgres`` a server of its own. With
``DATABASE_URL`` or ``DB_PATH`` it is what they name.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack


def _remove(folder: str, maker: int) -> None:
    if os.getpid() == maker:  # not in a fork
        shutil.rmtree(folder, ignore_errors=True)


# In the environment, so that whatever a test starts, and each process of xdist, uses that folder as well.
os.environ.setdefault("SECRET_KEY", "only-for-tests")
os.environ.setdefault("TASKSERVICE_LEASE_SECONDS", "2")
os.environ.setdefault("TASKSERVICE_APPS", "tasks.tests.faults")
_told = os.environ.get("DATABASE_URL", "")
_kind = os.environ.setdefault("TEST_DATABASE", "postgres" if _told.startswith("postgres") else "sqlite")
if _kind not in ("sqlite", "postgres"):
    sys.exit(f"TEST_DATABASE is {_kind!r}, but must be sqlite or postgres.")
if {"DATABASE_URL", "DB_PATH"} & os.environ.keys():
    pass  # as told, or as the process that started this one has set it
elif _kind == "postgres":
    from tasks.tests.postgres import postgres

    _running = ExitStack()
    os.environ["DATABASE_URL"] = _running.enter_context(postgres()).url("tasks")
    atexit.register(_running.close)
else:
    _folder = tempfile.mkdtemp(prefix="taskservice-tests-")
    os.environ["DB_PATH"] = os.path.join(_folder, "tasks.db")
    atexit.register(_remove, _folder, os.getpid())

from tasks.rates import Rate  # noqa: E402
from taskservice.settings import *  # noqa: E402, F403 - they read the environment
from taskservice.settings import DATABASES, TASKSERVICE  # noqa: E402

if DATABASES["default"]["ENGINE"] == "tasks.sqlite":
    DATABASES["default"]["TEST"] = {"NAME": f"{DATABASES['default']['NAME']}-test"}  # a file, not in memory

_unlimited = dict.fromkeys(("throttle_burst", "throttle_sustained", "throttle_wrong_tokens"), Rate(0))
TASKSERVICE = {**TASKSERVICE, "authentication": "none", **_unlimited}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real ones are slow on purpose
