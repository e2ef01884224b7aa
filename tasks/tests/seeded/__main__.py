"""A chaos run of a service with bugs: the first argument names them, the others are those of the run."""

from __future__ import annotations

import sys

from bench.chaos.__main__ import main

bugs, *arguments = sys.argv[1:]
sys.exit(main(arguments, more={"TASKSERVICE_APPS": "tasks.tests.seeded", "SEEDED_BUGS": bugs}))
