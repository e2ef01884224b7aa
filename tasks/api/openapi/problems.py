"""Every problem as a response with an example: ``components.responses``, one for each slug and status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.api.problems import KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """When a problem comes, and what it says then."""

    when: str
    detail: str
    errors: Sequence[Mapping[str, str]] = ()
    headers: tuple[str, ...] = ()


def _wrong(pointer: str, code: str, detail: str) -> Mapping[str, str]:
    return {"pointer": pointer, "code": code, "detail": detail}


_NO_PRIORITY = "priority must be from -100 to 100"
TOLD: Mapping[str, Told] = {
    "invalid-json": Told(
        when="The body is not one JSON object that can be stored.",
        detail="invalid JSON",
        errors=[_wrong("", "invalid-json", "an object has a member twice")],
    ),
    "invalid-field": Told(
        when="A member, a parameter or a header is wrong, or not known; all that is wrong is said at once.",
        detail=_NO_PRIORITY,
        errors=[_wrong("/priority", "range", _NO_PRIORITY)],
    ),
    "bad-request": Told(
        when="HTTP that makes no sense, or a Host that is not served here.",
        detail="The request cannot be understood.",
    ),
    "unauthenticated": Told(
        when="A token is needed, and there is none that is valid.",
        detail="A valid token is needed: send it as 'Authorization: Bearer tsk_...'.",
        headers=("WWW-Authenticate",),
    ),
    "forbidden": Told(
        when="The token lacks the scope or the queue; or a page of another site asks.",
        detail="This token lacks the scope tasks:manage.",
    ),
    "not-found": Told(when="There is no such thing, or not for this token.", detail="task not found"),
    "method-not-allowed": Told(
        when="Nothing is done by this method here.",
        detail="allowed here: GET, HEAD, OPTIONS",
        headers=("Allow",),
    ),
    "conflict-state": Told(
        when="The task's state does not allow it.",
        detail="A task that is completed cannot be cancelled.",
        headers=("Idempotency-Replayed",),
    ),
    "duplicate": Told(
        when="There is one already.",
        detail="There is a token called 'billing' already.",
        headers=("Idempotency-Replayed",),
    ),
    "idempotency-in-flight": Told(
        when="A request with this `Idempotency-Key` is being decided.",
        detail="A request with this Idempotency-Key is being decided; ask again for its outcome.",
    ),
    "too-large": Told(
        when="The body has more than 256 KiB, or 8 MiB for a batch.",
        detail="The body is larger than 262,144 bytes.",
    ),
    "unknown-handler": Told(
        when="No handler has this public name.",
        detail="No handler is called 'demo.ecko': did you mean 'demo.echo'?",
        errors=[_wrong("/handler", "unknown-handler", "No handler is called 'demo.ecko': …")],
    ),
    "idempotency-mismatch": Told(
        when="This `Idempotency-Key` came with another body before, or by a token that may see other tasks.",
        detail="This Idempotency-Key was used with another body, or by a token that may see other tasks; "
        "take a new key for a new request.",
    ),
    "unconfirmed": Told(
        when="`confirm` is not the name of the queue. Nothing was done.",
        detail="confirm must be the name of the queue, 'invoices': nothing was done",
        errors=[_wrong("/confirm", "unconfirmed", "confirm must be the name of the queue, 'invoices': …")],
    ),
    "rate-limited": Told(
        when="The token or the address asks too often, or the queue is full. Nothing was done.",
        detail="More than 5,000 requests in 1 s, which is the limit burst.",
        headers=("Retry-After",),
    ),
    "internal-error": Told(
        when="A fault of the service: its log says which.",
        detail="Something went wrong here; the log says what.",
    ),
    "unavailable": Told(
        when="The database is busy, full or gone; with an `Idempotency-Key` it is safe to try again.",
        detail="The database does not answer now; try again.",
        headers=("Retry-After",),
    ),
}
# What the server itself says, before any endpoint is asked.
OF_THE_SERVER: Mapping[int, str] = {
    408: "The request did not arrive within 20 seconds.",
    414: "The path and query have more than 8,190 bytes.",
    417: "An expectation that cannot be met.",
    431: "The head of the request is too large.",
    501: "A method or a transfer coding that is not known.",
}
COUNTED = ("RateLimit-Policy", "RateLimit")  # headers of what a limit is held for
# of every operation
EVERYWHERE = ("bad-request", "method-not-allowed", "internal-error", "unavailable")


def by_status(slugs: Sequence[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for slug in dict.fromkeys(slugs):
        found.setdefault(KINDS[slug][0], []).append(slug)
    return dict(sorted(found.items()))


def ref(names: Sequence[str]) -> dict[str, Any]:
    """To one of ``components.responses``, which is called by the slugs that it says one of."""
    return {"$ref": f"#/components/responses/{'.'.join(names)}"}


def header_refs(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def response(slugs: Sequence[str]) -> dict[str, Any]:
    """The response that says one of these; they are of one status."""
    told = [TOLD[slug] for slug in slugs]
    # a header that only some of them bring is not promised
    headers = {name for one in told for name in one.headers} | set(COUNTED)
    shown = {slug: {"summary": KINDS[slug][1], "value": example(slug, KINDS[slug][0])} for slug in slugs}
    answer: dict[str, Any] = {
        "description": " ".join(f"`{slug}`: {TOLD[slug].when}" for slug in slugs),
        "content": {
            "application/problem+json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": shown,
            }
        },
    }
    answer["headers"] = header_refs(sorted(headers))
    return answer


def responses_of_the_server() -> dict[str, Any]:
    """By their names in ``components.responses``."""
    return {f"server-{status}": _of_the_server(status, when) for status, when in OF_THE_SERVER.items()}


def _of_the_server(status: int, when: str) -> dict[str, Any]:
    shown = {"bad-request": {"value": {**example("bad-request", status), "detail": when}}}
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {"application/problem+json": {"schema": schema, "examples": shown}}
    return {"description": f"`bad-request`: {when}", "content": content}


def example(slug: str, status: int) -> dict[str, Any]:
    told = TOLD[slug]
    value = {"type": f"/problems/{slug}", "title": KINDS[slug][1], "status": status, "detail": told.detail}
    return {**value, "errors": list(told.errors)} if told.errors else value
