"""The service's settings, with its database as a file in a temporary folder that other processes can open."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile


def _remove(folder: str, maker: int) -> None:
    if os.getpid() == maker:  # not in a fork
        shutil.rmtree(folder, ignore_errors=True)


# In the environment, so that whatever a test starts, and each process of xdist, uses that folder as well.
os.environ.setdefault("SECRET_KEY", "only-for-tests")
os.environ.setdefault("TASKSERVICE_LEASE_SECONDS", "2")
os.environ.setdefault("TASKSERVICE_APPS", "tasks.tests.faults")
if not {"DATABASE_URL", "DB_PATH"} & os.environ.keys():
    _folder = tempfile.mkdtemp(prefix="taskservice-tests-")
    os.environ["DB_PATH"] = os.path.join(_folder, "tasks.db")
    atexit.register(_remove, _folder, os.getpid())

from taskservice.settings import *  # noqa: E402, F403 - they read the environment
from taskservice.settings import DATABASES  # noqa: E402

if DATABASES["default"]["ENGINE"] == "tasks.sqlite":
    DATABASES["default"]["TEST"] = {"NAME": f"{DATABASES['default']['NAME']}-test"}  # a file, not in memory

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real ones are slow on purpose
