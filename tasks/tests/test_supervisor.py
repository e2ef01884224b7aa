"""How children are started and ended, shown with small real processes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import psutil
import pytest
from django.conf import settings

from tasks.management import supervisor

# Arguments: the children's scripts. Prints "pid NAME PID" for each, and how it ended.
SUPERVISE = """
import os, sys
from datetime import timedelta
from tasks.management.supervisor import Supervisor
from tasks.worker.stop import StopSignals

signals = StopSignals()
signals.install()
supervisor = Supervisor(signals)
for number, script in enumerate(sys.argv[1:]):
    supervisor.start(f"child{number}", ["sh", "-c", script], patience=timedelta(seconds=2))
    print(supervisor.children[-1].process.pid, flush=True)
code = supervisor.run()
print("codes", *(child.code for child in supervisor.children), flush=True)
sys.exit(code)
"""
ENDS_WHEN_ASKED = "trap 'echo {name} ends; exit 0' TERM; while :; do sleep 0.05; done"
NEVER_ENDS = "trap '' TERM; trap 'echo {name} at once; exit 0' QUIT; while :; do sleep 0.05; done"
DEAF = "trap '' TERM QUIT INT; while :; do sleep 0.05; done"

Supervise = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def supervise() -> Iterator[Supervise]:
    started: list[subprocess.Popen[str]] = []

    def supervise(*scripts: str, script: str = SUPERVISE) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *scripts]
        process = subprocess.Popen(command, cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield supervise
    for process in started:
        process.kill()
        process.wait()


def children_of(process: subprocess.Popen[str], count: int) -> list[psutil.Process]:
    assert process.stdout is not None
    return [psutil.Process(int(process.stdout.readline())) for _ in range(count)]


def gone(processes: list[psutil.Process], *, within: float) -> bool:
    return psutil.wait_procs(processes, timeout=within)[1] == []


def settle_in() -> None:
    time.sleep(0.3)  # sh sets its traps; nothing tells when it did


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_children_are_stopped_in_the_order_of_their_start(
    supervise: Supervise, number: signal.Signals
) -> None:
    process = supervise(ENDS_WHEN_ASKED.format(name="first"), ENDS_WHEN_ASKED.format(name="second"))
    children = children_of(process, 2)
    settle_in()

    process.send_signal(number)

    assert process.communicate(timeout=20)[0] == "first ends\nsecond ends\ncodes 0 0\n"
    assert process.returncode == 0
    assert gone(children, within=0)


@pytest.mark.parametrize(("own_end", "codes"), [("exit 3", "codes 3 0"), ("exit 0", "codes 0 0")])
def test_one_that_ends_by_itself_takes_the_other_along(
    supervise: Supervise, own_end: str, codes: str
) -> None:
    process = supervise(f"sleep 0.5; {own_end}", ENDS_WHEN_ASKED.format(name="other"))

    assert process.communicate(timeout=20)[0].splitlines()[2:] == ["other ends", codes]
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("code", "level", "words"),
    [(0, logging.WARNING, "serve.drained"), (3, logging.ERROR, "serve.ended-by-itself")],
)
def test_workers_that_have_drained_are_no_error_in_the_log(
    caplog: pytest.LogCaptureFixture, code: int, level: int, words: str
) -> None:
    with subprocess.Popen(["true"]) as process:
        child = supervisor.Child("workers", process, timedelta(seconds=1))
        process.wait()
        process.returncode = code
        supervisor._log_own_end(child)

    [record] = caplog.records
    assert (record.levelno, record.message.split()[0]) == (level, words)


def test_each_child_leads_a_session_of_its_own(supervise: Supervise) -> None:
    process = supervise("sleep 60", "sleep 60")

    for child in children_of(process, 2):
        assert os.getsid(child.pid) == child.pid
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0


def test_a_second_signal_is_passed_on_at_once(supervise: Supervise) -> None:
    process = supervise(NEVER_ENDS.format(name="first"), NEVER_ENDS.format(name="second"))
    children_of(process, 2)
    settle_in()

    process.send_signal(signal.SIGINT)
    time.sleep(1.2)
    process.send_signal(signal.SIGINT)

    assert set(process.communicate(timeout=20)[0].splitlines()) == {
        "first at once",
        "second at once",
        "codes 0 0",
    }
    assert process.returncode == 0


def test_the_same_signal_sent_twice_in_a_row_counts_once(supervise: Supervise) -> None:
    slow = "trap 'sleep 0.5; echo {name} ends; exit 0' TERM; while :; do sleep 0.05; done"
    process = supervise(slow.format(name="first"), slow.format(name="second"))
    children_of(process, 2)
    settle_in()

    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)

    assert process.communicate(timeout=20)[0] == "first ends\nsecond ends\ncodes 0 0\n"


def test_sigquit_ends_at_once(supervise: Supervise) -> None:
    process = supervise(NEVER_ENDS.format(name="only"))
    children_of(process, 1)
    settle_in()

    process.send_signal(signal.SIGQUIT)

    assert process.communicate(timeout=20)[0] == "only at once\ncodes 0\n"


def test_a_deaf_child_is_killed_when_patience_is_over(supervise: Supervise) -> None:
    process = supervise(DEAF)
    [child] = children_of(process, 1)
    settle_in()

    process.send_signal(signal.SIGTERM)

    assert process.communicate(timeout=20)[0] == "codes -9\n"
    assert process.returncode == 1
    assert gone([child], within=0)


def test_children_end_when_the_supervisor_is_killed(supervise: Supervise) -> None:
    process = supervise("exec sleep 60", "exec sleep 60")
    children = children_of(process, 2)

    process.kill()

    assert gone(children, within=5)


def test_orphans_of_others_are_reaped(supervise: Supervise) -> None:
    """As for process 1 of a container; a subreaper stands for it."""
    subreaper = "import ctypes; ctypes.CDLL(None).prctl(36, 1)\n"  # PR_SET_CHILD_SUBREAPER
    orphaned = "sleep 0.3; (sleep 0.3 & echo $!) ; exec sleep 60"
    process = supervise(orphaned, script=subreaper + SUPERVISE)
    children_of(process, 1)
    assert process.stdout is not None
    orphan = int(process.stdout.readline())

    deadline = time.monotonic() + 10
    while psutil.pid_exists(orphan) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert not psutil.pid_exists(orphan)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0


def test_nohup_is_respected() -> None:
    script = """
import signal
from tasks.worker.stop import StopSignals
StopSignals().install()
print(signal.getsignal(signal.SIGHUP))
"""
    command = ["nohup", sys.executable, "-c", script]

    said = subprocess.run(
        command, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=30, check=True
    )

    assert said.stdout == f"{signal.SIG_IGN!s}\n"
