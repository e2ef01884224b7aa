"""Pages that renew themselves, in a real browser: they stay fresh, and stand still when they should."""

from __future__ import annotations

from typing import Any

import pytest

from tasks import lifecycle, operations
from tasks.models import Operation
from tasks.tests.browsers import NO_CHROMIUM
from tasks.tests.staff import OPERATIONS, QUEUES
from tasks.tests.test_admin_browser import Visitor, visit, wish

__all__ = ["visit"]  # a fixture

pytestmark = [NO_CHROMIUM, pytest.mark.django_db(transaction=True), pytest.mark.slow]

READY = "a[href$='queue=mail&status=pending'] >> nth=0"


class Watched:
    """A page whose clock stands from its load on until a test moves it; it knows how often it was renewed."""

    def __init__(self, visit: Visitor, url: str = "/admin/") -> None:
        self.page = visit()
        self.renewed = 0
        self.page.on("request", self._hear)
        self.page.clock.install()
        self.page.clock.pause_at(self.page.evaluate("Date.now()") + 60_000)
        self.page.goto(url)

    def _hear(self, request: Any) -> None:
        self.renewed += request.headers.get("x-live") == "1"

    def wait(self, seconds: int = 6) -> int:
        """How often it was renewed while this time passed; no time passes while it waits for an answer."""
        before = self.renewed
        for _ in range(seconds):
            self.page.clock.run_for(1000)
            self.page.wait_for_selector("[data-live-every][aria-busy=false]", state="attached")
        return self.renewed - before

    @property
    def says(self) -> str:
        return str(self.page.inner_text(".live [role=status]"))


def test_numbers_change_while_somebody_looks(visit: Visitor) -> None:
    lifecycle.enqueue([wish("mail")])
    page = visit()
    assert page.inner_text(READY) == "1"

    lifecycle.enqueue([wish("mail")])

    page.wait_for_selector(f"{READY} >> text=2")  # a function in words is no script that the policy lets run
    assert page.inner_text(".live [role=status]") == "Live, every 5 s"


def test_the_button_stops_it_and_lets_it_go_on(visit: Visitor) -> None:
    watched = Watched(visit)
    assert watched.wait() == 1

    watched.page.click(".live button")
    assert (watched.says, watched.wait(12)) == ("Paused", 0)

    watched.page.click(".live button")
    assert watched.wait(2) == 1
    assert watched.says == "Live, every 5 s"


def test_it_stays_paused_on_the_next_page(visit: Visitor) -> None:
    watched = Watched(visit)
    watched.page.click(".live button")

    watched.page.goto(QUEUES)

    assert (watched.says, watched.wait()) == ("Paused", 0)


def test_a_tab_that_nobody_sees_asks_for_nothing(visit: Visitor) -> None:
    watched = Watched(visit)
    hide = """hidden => {
        Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""

    watched.page.evaluate(hide, True)
    assert watched.wait(12) == 0

    watched.page.evaluate(hide, False)
    assert watched.wait(1) == 1  # at once


def test_it_stands_still_while_rows_are_chosen(visit: Visitor) -> None:
    watched = Watched(visit)
    row = '<label><input type="checkbox" class="action-select">One</label>'
    watched.page.evaluate(f"document.querySelector('#live').insertAdjacentHTML('beforeend', '{row}')")

    watched.page.check(".action-select")
    assert (watched.says, watched.wait(12)) == ("Paused while rows are chosen", 0)

    watched.page.uncheck(".action-select")
    assert watched.wait() == 1


def test_nothing_is_swapped_under_a_pointer_that_is_down(visit: Visitor) -> None:
    lifecycle.enqueue([wish("mail")])
    watched = Watched(visit)
    lifecycle.enqueue([wish("mail")])

    watched.page.dispatch_event("#live", "pointerdown")
    assert (watched.wait(), watched.page.inner_text(READY)) == (1, "1")

    watched.page.dispatch_event("#live", "pointerup")
    assert (watched.wait(), watched.page.inner_text(READY)) == (1, "2")


def test_a_menu_that_opens_does_not_leave_it_standing(visit: Visitor) -> None:
    """What comes after its press goes to the menu."""
    lifecycle.enqueue([wish("mail")])
    watched = Watched(visit)
    lifecycle.enqueue([wish("mail")])

    watched.page.dispatch_event("#live", "pointerdown", {"button": 2})
    assert (watched.wait(), watched.page.inner_text(READY)) == (1, "2")

    lifecycle.enqueue([wish("mail")])
    watched.page.dispatch_event("#live", "pointerdown")
    watched.page.dispatch_event("#live", "contextmenu")
    assert (watched.wait(), watched.page.inner_text(READY)) == (1, "3")


def test_it_stands_still_while_text_is_marked(visit: Visitor) -> None:
    watched = Watched(visit)

    watched.page.evaluate("getSelection().selectAllChildren(document.querySelector('#live .tiles'))")

    assert watched.wait(12) == 0
    assert watched.says == "Paused while text is marked"


def test_what_is_unfolded_and_what_has_the_focus_stays_so(visit: Visitor) -> None:
    lifecycle.enqueue([wish("mail")])
    watched = Watched(visit)
    watched.page.click("#numbers-hour summary")
    watched.page.focus("#live a[href$='queue=mail']")

    lifecycle.enqueue([wish("mail")])
    watched.wait()

    assert watched.page.inner_text(READY) == "2"
    assert watched.page.is_visible("#numbers-hour table")
    assert watched.page.evaluate("document.activeElement.getAttribute('href')").endswith("queue=mail")


def test_who_was_logged_out_is_told_and_asks_no_more(visit: Visitor) -> None:
    watched = Watched(visit)
    watched.page.context.clear_cookies()

    watched.wait()

    assert watched.says == "Logged out: load the page anew"
    assert watched.wait(12) == 0


def test_it_tries_again_when_there_was_no_answer(visit: Visitor) -> None:
    watched = Watched(visit)
    watched.page.route("**/admin/", lambda route: route.abort())
    watched.wait()
    assert watched.says == "No answer; trying again"

    watched.page.unroute("**/admin/")
    watched.wait(12)

    assert watched.says == "Live, every 5 s"
    assert all("ERR_FAILED" in complaint for complaint in visit.complaints)
    visit.complaints.clear()


def test_the_page_of_an_operation_notices_that_it_is_done_and_asks_no_more(visit: Visitor) -> None:
    lifecycle.enqueue([wish("mail")])
    page = visit()
    page.goto(f"{OPERATIONS}add/?verb=cancel&created=ever")
    page.click("button:has-text('Cancel 1 unfinished task')")
    page.wait_for_selector("#stop")
    watched = Watched(visit, page.url)

    while operations.advance(Operation.objects.get().pk):
        pass
    watched.wait()

    assert watched.page.inner_text("h1 .badge") == "Done"
    assert not watched.page.is_visible("#stop")
    assert "Ended" in watched.page.inner_text("#facts")
    assert not watched.page.is_visible(".live")
    assert watched.wait(12) == 0
