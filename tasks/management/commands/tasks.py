"""``manage.py tasks``: look at tasks and queues, and steer them, from a shell."""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from tasks import lifecycle, postgres
from tasks.conf import config
from tasks.errors import TaskServiceError
from tasks.limits import PAUSE_REASON_CHARS, QUEUE_RULE, is_queue_name
from tasks.management import doctor, moving, showing
from tasks.management.choosing import add_filters, filters_of, newest_matching, task_id
from tasks.management.migrating import unusable
from tasks.management.tables import table, terminal_width
from tasks.management.words import SubcommandParser, moment, payload, reason
from tasks.models.task import database
from tasks.pending import Situation
from tasks.queues import AllQueues
from tasks.resource import resource
from tasks.sqlite.base import DatabaseWrapper
from tasks.stats import COUNTED

MOST = 100_000  # tasks of one list

EPILOG = """\
examples:
  manage.py tasks list --status failed --queue mail
  manage.py tasks list --json --status pending | jq -r .pending_reason.code | sort | uniq -c
  manage.py tasks show 01a20be6-91c5-7775-9582-7160d30bb116
  manage.py tasks retry --all-matching --status failed --handler mail.send --dry-run
  manage.py tasks cancel 01a20be6-91c5-7775-9582-7160d30bb116 --reason "ordered twice"
  manage.py tasks pause mail --reason "the provider is down"
  manage.py tasks doctor || echo "something is stuck"

exit code: 0 all is well; 1 something is wrong, or nothing was moved; 2 it was asked wrongly."""


LEVER_OPTIONS: dict[str, list[tuple[str, Callable[[str], Any], str]]] = {
    "retry": [
        ("--run-at", moment, "not before this time: RFC 3339, such as 2026-01-12T01:37:19Z"),
        ("--payload", payload, "with this payload instead of its own: a JSON object"),
    ],
    "cancel": [("--reason", reason, "why; it is kept with the task")],
}


class Command(BaseCommand):
    help = "Look at tasks and queues, and steer them. `tasks COMMAND --help` tells more of each."
    requires_system_checks = ()  # the doctor says what is wrong; the others only need the database

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class, parser.epilog = RawDescriptionHelpFormatter, EPILOG
        commands = parser.add_subparsers(
            dest="what",
            required=True,
            metavar="COMMAND",
            title="commands",
            parser_class=SubcommandParser,
        )

        def add(name: str, words: str, run: Callable[[dict[str, Any]], int]) -> ArgumentParser:
            made = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
            made.set_defaults(run=run)
            return made

        listing = add("list", "the newest tasks, or the newest that match", self.list)
        listing.add_argument(
            "--limit", type=_limit, default=50, metavar="N", help=f"1 to {MOST} (default: 50)"
        )
        add_filters(listing)
        show = add("show", "all about some tasks: their payload, their result, what went wrong", self.show)
        show.add_argument("ids", nargs="+", type=task_id, metavar="ID")
        self._add_levers(add)
        for name, words, run in (
            ("pause", "claim nothing from some queues until they are resumed; what runs goes on", self.pause),
            ("resume", "claim from some queues again", self.resume),
        ):
            lever = add(name, words, run)
            lever.add_argument("queues", nargs="+", type=_queue, metavar="QUEUE")
            if name == "pause":
                words_ = partial(reason, most=PAUSE_REASON_CHARS)
                lever.add_argument("--reason", type=words_, help="why; whoever asks what waits is told")
        drain = add("drain", "let workers take nothing more, and end when what they run is done", self.drain)
        drain.add_argument("workers", nargs="*", metavar="WORKER", help="as the admin and the log name it")
        drain.add_argument("--all", action="store_true", help="all that live now")
        stats = add(
            "stats", "how many tasks wait in each queue, since when, and how many workers", self.stats
        )
        check = add(
            "doctor", "what is stuck and what is set up wrongly, and what to do about it", self.doctor
        )
        for parser_ in (listing, show, stats, check):
            parser_.add_argument("--json", action="store_true", help="for programs: JSON, an object a line")

    def _add_levers(self, add: Callable[..., ArgumentParser]) -> None:
        for name, words in (
            ("retry", "make finished tasks run again, with a new budget of attempts"),
            ("cancel", "cancel what is pending, and ask what is running to stop"),
        ):
            lever = add(name, words, self.move)
            lever.add_argument("ids", nargs="*", type=task_id, metavar="ID")
            lever.add_argument("--all-matching", action="store_true", help="all that match the filters")
            lever.add_argument("--dry-run", action="store_true", help="only say how many match")
            lever.add_argument("--yes", action="store_true", help="do not ask first")
            for option, kind, help_ in LEVER_OPTIONS[name]:
                lever.add_argument(option, type=kind, metavar="…", help=help_)
            add_filters(lever)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["what"] != "doctor":
                _require_file()
            code = options["run"](options)
            sys.stdout.flush()
        except TaskServiceError as error:  # a payload that is too large, for example
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            raise CommandError(f"{unusable(error)} Has `manage.py migrate` been run?") from error
        except BrokenPipeError:  # `| head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        if code:
            sys.exit(code)

    def say(self, line: str) -> None:
        self.stdout.write(line)

    # -- each command: what it writes, and its exit code

    def list(self, options: dict[str, Any]) -> int:
        situation = Situation()
        tasks = newest_matching(filters_of(options), options["limit"])
        if options["json"]:
            for task in tasks:
                self.say(showing.as_json(resource(task, situation)))
        else:
            self.say(showing.task_table(tasks, situation))
        return 0

    def show(self, options: dict[str, Any]) -> int:
        found, situation = showing.found(options["ids"]), Situation()
        for id_ in dict.fromkeys(options["ids"]):
            if task := found.get(id_):
                whole = options["json"]
                self.say(
                    showing.as_json(showing.whole(task, situation))
                    if whole
                    else showing.page(task, situation)
                )
            else:
                self.stderr.write(f"There is no task {id_}.")
        return 0 if len(found) == len(set(options["ids"])) else 1

    def move(self, options: dict[str, Any]) -> int:
        return moving.run(moving.LEVERS[options["what"]], options, self.say)

    def pause(self, options: dict[str, Any]) -> int:
        names, situation = list(dict.fromkeys(options["queues"])), Situation()
        before, strange = situation.paused.keys() & set(names), AllQueues(situation).unknown(names)
        moved = lifecycle.pause(names, by=_who(), reason=options["reason"] or "")
        self.say(f"{moved} of {len(names)} paused. What runs goes on.")
        self._say_of(before, "paused already, by whom and why is as it was")
        self._say_of(strange, "nothing uses it: is it spelled right?")
        return 0 if moved else 1

    def resume(self, options: dict[str, Any]) -> int:
        names = list(dict.fromkeys(options["queues"]))
        going_on = set(names) - Situation().paused.keys()
        moved = lifecycle.resume(names, by=_who())
        self.say(f"{moved} of {len(names)} resumed.")
        self._say_of(going_on, "not paused")
        return 0 if moved else 1

    def _say_of(self, queues: Collection[str], what: str) -> None:
        if queues:
            self.say(f"{', '.join(sorted(queues))}: {what}")

    def drain(self, options: dict[str, Any]) -> int:
        if options["all"] == bool(options["workers"]):
            raise CommandError("Name workers, or give --all.")
        every = lifecycle.living(now=Situation().now).values_list("pk", flat=True)
        chosen = set(every) if options["all"] else set(options["workers"])
        moved = lifecycle.drain(chosen, by=_who())
        self.say(f"{moved} of {len(chosen)} asked; each ends when what it runs is done.")
        return 0 if moved else 1

    def stats(self, options: dict[str, Any]) -> int:
        situation = Situation()
        queues, counts = showing.queue_standings(situation), showing.counts()
        if options["json"]:
            told = [showing.queue_json(queue, situation) for queue in queues]
            self.say(showing.as_json({"queues": told, "tasks": counts, **showing.workforce(situation)}))
            return 0
        rows = [showing.queue_row(queue, situation) for queue in queues]
        self.say(table(showing.QUEUE_HEAD, rows, terminal_width()))
        known = [
            f"{showing.capped(number, COUNTED)} {name}"
            for name, number in counts.items()
            if number is not None
        ]
        self.say(f"\n{', '.join(known)}; {showing.workforce_in_words(situation)}.")
        return 0

    def doctor(self, options: dict[str, Any]) -> int:
        findings = doctor.examine()
        if options["json"]:
            for finding in findings:
                self.say(showing.as_json(finding.as_json()))
        elif findings:
            self.say("\n".join(map(str, findings)))
        else:
            self.say("All is well.")
        return 1 if any(finding.level == doctor.ERROR for finding in findings) else 0


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST}")
    return int(text)


def _queue(text: str) -> str:
    if not is_queue_name(text):
        raise ArgumentTypeError(f"{text!r} is no name of a queue: it {QUEUE_RULE}")
    return text


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return f"user {os.getuid()}"


def _require_file() -> None:
    connection = connections[database()]
    if isinstance(connection, DatabaseWrapper) and not os.path.exists(connection.path):
        raise CommandError(f"There is no database {connection.path} (see DATABASE_URL, DB_PATH).")
    if postgres.is_postgres(database()):
        postgres.limit_waits(database(), pooler=config().pooler, statement_seconds=60)
