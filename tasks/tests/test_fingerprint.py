"""Which failures are the same: handler, type of error, and the deepest frame of the handler's own code."""

from __future__ import annotations

import linecache
import textwrap
from itertools import count
from typing import Any

import pytest

from tasks.contract import Lease
from tasks.fingerprint import FINGERPRINT_CHARS, FRAME_CHARS, Frame, fingerprint, is_library, own_frame
from tasks.worker import running
from tasks.worker.running import Interrupt

HANDLER = Frame("shop.tasks", "/app/shop/tasks.py", "charge")
BILLING = Frame("shop.billing", "/app/shop/billing.py", "Basket.pay")
HTTP = Frame("requests.sessions", "/app/.venv/lib/python3.13/site-packages/requests/sessions.py", "get")
SOCKET = Frame("socket", "/usr/local/lib/python3.13/socket.py", "connect")
IMPORT = Frame("importlib._bootstrap", "<frozen importlib._bootstrap>", "_gcd_import")
SERVICE = Frame("tasks.lifecycle.intake", "/app/tasks/lifecycle/intake.py", "enqueue")
WORKER = Frame("tasks.worker.running", "/app/tasks/worker/running.py", "call")


@pytest.mark.parametrize(
    ("frames", "own"),
    [
        ([HANDLER], "shop.tasks.charge"),
        ([HANDLER, BILLING, HTTP, SOCKET], "shop.billing.Basket.pay"),
        ([HANDLER, HTTP, BILLING], "shop.billing.Basket.pay"),  # a library calls back
        ([WORKER, HANDLER, IMPORT], "shop.tasks.charge"),
        ([HANDLER, SERVICE], "shop.tasks.charge"),  # it makes another task
        ([HTTP, SOCKET], ""),
        ([], ""),
    ],
)
def test_the_deepest_frame_of_the_project_is_its_own(frames: list[Frame], own: str) -> None:
    assert own_frame(frames, home="shop.tasks") == own


def test_a_project_that_was_installed_as_a_package_is_still_its_own() -> None:
    installed = BILLING._replace(path="/usr/lib/python3/dist-packages/shop/billing.py")

    assert own_frame([HANDLER, installed, HTTP], home="shop.tasks") == "shop.billing.Basket.pay"


def test_the_services_own_handlers_are_told_apart_from_its_other_code() -> None:
    echo = Frame("tasks.handlers", "/app/tasks/handlers.py", "fail")

    assert own_frame([WORKER, echo, SERVICE], home="tasks.handlers") == "tasks.handlers.fail"


def test_a_frame_is_bounded() -> None:
    assert len(own_frame([HANDLER._replace(function="f" * 1000)], home="shop.tasks")) == FRAME_CHARS


@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/python3.13/json/decoder.py",
        "/usr/lib64/python3.13/json/decoder.py",
        "/opt/venv/lib/python3.12/site-packages/django/db/utils.py",
        "/usr/lib/python3/dist-packages/requests/api.py",
        "<frozen runpy>",
    ],
)
def test_what_was_installed_is_a_library(path: str) -> None:
    assert is_library(path)


@pytest.mark.parametrize(
    "path", ["/srv/lib/shop/tasks.py", "/app/python3/tasks.py", "<string>", "tasks.py", ""]
)
def test_what_was_not_is_none(path: str) -> None:
    assert not is_library(path)


@pytest.mark.parametrize(
    "other",
    [("mail.send", "E", "shop.a"), ("shop.charge", "F", "shop.a"), ("shop.charge", "E", "shop.b")],
)
def test_each_part_makes_another_fingerprint(other: tuple[str, str, str]) -> None:
    one = fingerprint("shop.charge", "E", "shop.a")

    assert fingerprint(*other) != one == fingerprint("shop.charge", "E", "shop.a")
    assert len(one) == FINGERPRINT_CHARS


def test_parts_do_not_run_into_each_other() -> None:
    assert fingerprint("ab", "c", "") != fingerprint("a", "bc", "")


def test_any_text_has_one() -> None:
    assert fingerprint("ü\ud800", "\0", "") != fingerprint("ü", "\0", "")


# -- of real errors


_numbers = count()


def raised_by(source: str, call: str = "charge()") -> BaseException:
    """What this code raises, as the project's own module ``shop.tasks``."""
    name = f"/app/shop/tasks_{next(_numbers)}.py"
    text = textwrap.dedent(source)
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    module: dict[str, Any] = {"__name__": "shop.tasks"}
    exec(compile(text, name, "exec"), module)
    with pytest.raises(BaseException) as caught:
        eval(call, module)
    return caught.value


CODE = """
import json

def charge():
    return Basket().pay()

class Basket:
    def pay(self):
        return json.loads("{")
"""


def test_lines_may_move_and_the_frame_stays() -> None:
    before = running.report_of(raised_by(CODE), home="shop.tasks")
    after = running.report_of(raised_by("# a new line\n" * 40 + CODE), home="shop.tasks")

    assert before.frame == after.frame == "shop.tasks.Basket.pay"
    assert before.traceback != after.traceback


def test_what_a_message_says_moves_no_failure_to_another_group() -> None:
    forged = """
    def charge():
        raise ValueError('no\\n  File "/app/shop/other.py", line 3, in other\\n')
    """

    assert running.report_of(raised_by(forged), home="shop.tasks").frame == "shop.tasks.charge"


def test_a_time_limit_tells_where_it_met_the_handler() -> None:
    from datetime import timedelta
    from uuid import uuid4

    lease = Lease(uuid4(), 1, "shop.charge", "[]", "{}", 1, timeout=timedelta(seconds=3))

    outcome: Any = running.failure(raised_by(CODE), lease, Interrupt("timeout"), home="shop.tasks")

    assert outcome.frame == "shop.tasks.Basket.pay"
