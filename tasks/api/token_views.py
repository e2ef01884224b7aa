"""``/tokens``: make, list and withdraw the tokens of the API; for those who may do everything."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from django.db import IntegrityError, transaction
from django.http import HttpResponse
from rest_framework.request import Request

from tasks import clock, members, tokens
from tasks.api.answers import json_answer, no_content
from tasks.api.bodies import parse_object, read_bytes
from tasks.api.listing import listing_from
from tasks.api.pagination import page_answer, page_of
from tasks.api.reading import uuid_of
from tasks.api.views import ApiView
from tasks.errors import InvalidFields, NameTaken, TokenNotFound
from tasks.grants import NOT_BOTH, USUAL, Scope, fit
from tasks.limits import OWNER_CHARS, QUEUES
from tasks.models import Token
from tasks.models.task import database
from tasks.resource import time_text

ADMINS = dict.fromkeys(("GET", "HEAD", "POST", "DELETE"), Scope.ADMIN)


class TokenCollection(ApiView):
    scopes: ClassVar = ADMINS

    def get(self, request: Request) -> HttpResponse:
        wanted = listing_from(request, {})
        return page_answer(page_of(Token.objects.using(database()), wanted, token_resource), wanted)

    def post(self, request: Request) -> HttpResponse:
        """201, with the secret: it is never shown again."""
        now = clock.now(database())
        given = token_from_json(parse_object(read_bytes(request)), now=now)
        try:
            with transaction.atomic(using=database()):
                token, secret = tokens.issue(now=now, **given)
        except IntegrityError as error:
            raise NameTaken(given["name"]) from error
        shown = {**token_resource(token), "token": secret}
        return json_answer(shown, status=201, headers={"Location": f"/tokens/{token.pk}"})


class TokenDetail(ApiView):
    scopes: ClassVar = ADMINS

    def get(self, request: Request, token_id: str) -> HttpResponse:
        return json_answer(token_resource(find_token(token_id)))

    def delete(self, request: Request, token_id: str) -> HttpResponse:
        """From then on it opens nothing."""
        find_token(token_id).delete(using=database())
        return no_content()


def token_resource(token: Token) -> dict[str, Any]:
    return {
        "id": str(token.id),
        "name": token.name,
        "owner": token.owner,
        "prefix": f"tsk_{token.prefix}",
        "scopes": token.scopes,
        "queues": token.queues,
        "created_at": time_text(token.created_at),
        "expires_at": time_text(token.expires_at),
        "used_at": time_text(token.used_at),
    }


def find_token(token_id: str) -> Token:
    try:
        return Token.objects.using(database()).get(pk=uuid_of(token_id))
    except (Token.DoesNotExist, ValueError):
        raise TokenNotFound from None


def token_from_json(value: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """What ``tokens.issue`` takes. Raises InvalidFields."""
    given, errors = members.read_members(value, MEMBERS)
    if "name" not in value:
        errors.append(members.error_at("name", "required", "is required", ""))
    expires_at = given.get("expires_at")
    if expires_at is not None and expires_at <= now:
        errors.append(members.error_at("expires_at", "range", "must be in the future", ""))
    if not fit(given.get("scopes", USUAL), given.get("queues")):
        errors.append(members.error_at("queues", "conflict", f"must be null: {NOT_BOTH}", ""))
    if errors:
        raise InvalidFields(errors[: members.ERRORS_SHOWN])
    return {"scopes": USUAL, **given}


def scopes(value: Any) -> list[Scope]:
    if not isinstance(value, list) or not value or not all(scope in list(Scope) for scope in value):
        raise members.Wrong("type", f"must be an array of {', '.join(Scope)}")
    return [Scope(scope) for scope in dict.fromkeys(value)]


def queues(value: Any) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= QUEUES:
        raise members.Wrong("type", f"must be an array of 1 to {QUEUES} queue names, or null")
    return [members.queue(name) for name in value]


MEMBERS: dict[str, members.Check] = {
    "name": partial(members.text, most=OWNER_CHARS),
    "owner": partial(members.text, most=OWNER_CHARS),
    "scopes": scopes,
    "queues": queues,
    "expires_at": members.time,
}
