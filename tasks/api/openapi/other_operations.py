"""What one can ask of tokens, and of the service itself."""

from __future__ import annotations

from typing import Any

from tasks.api.openapi import examples
from tasks.api.openapi.operations import Body, Operation, Reply
from tasks.api.openapi.parameters import PAGING
from tasks.grants import Scope

TOKENS, SERVICE = "Tokens", "The service"


def _link(operation: str, says: str) -> dict[str, Any]:
    parameters = {"token_id": "$response.body#/id"}
    return {"operationId": operation, "parameters": parameters, "description": says}


_LINKS = {"read": _link("readToken", "The token."), "withdraw": _link("deleteToken", "Withdraw it.")}

OPERATIONS = (
    Operation(
        method="get",
        path="/tokens",
        id="listTokens",
        tag=TOKENS,
        summary="List tokens",
        says="Newest first, without their secrets.",
        scope=Scope.ADMIN,
        parameters=tuple(PAGING),
        replies={
            200: Reply(
                says="A page of them.",
                schema="TokenPage",
                example=examples.page(examples.TOKEN, "/tokens"),
                headers=("Link",),
            )
        },
        problems=("invalid-field",),
    ),
    Operation(
        method="post",
        path="/tokens",
        id="createToken",
        tag=TOKENS,
        summary="Make a token",
        says="The answer shows the secret, this once: only its hash is kept.",
        scope=Scope.ADMIN,
        body=Body(schema="NewToken", examples={"for one queue": {"name": "billing", "queues": ["invoices"]}}),
        replies={
            201: Reply(
                says="It was made.",
                schema="IssuedToken",
                example={**examples.TOKEN, "token": "tsk_x8Kd2mQw…"},
                headers=("Location",),
                links=_LINKS,
            )
        },
        problems=("duplicate",),
    ),
    Operation(
        method="get",
        path="/tokens/{token_id}",
        id="readToken",
        tag=TOKENS,
        summary="Read a token",
        says="Without its secret.",
        scope=Scope.ADMIN,
        parameters=("token_id",),
        replies={200: Reply(says="The token.", schema="Token", example=examples.TOKEN, links=_LINKS)},
        problems=("not-found",),
    ),
    Operation(
        method="delete",
        path="/tokens/{token_id}",
        id="deleteToken",
        tag=TOKENS,
        summary="Withdraw a token",
        says="From then on it opens nothing.",
        scope=Scope.ADMIN,
        parameters=("token_id",),
        replies={204: Reply(says="It is gone.")},
        problems=("not-found",),
    ),
    Operation(
        method="get",
        path="/healthz",
        id="healthz",
        tag=SERVICE,
        summary="Does the process answer?",
        says="Nothing else is looked at. Answers whatever the Host header says.",
        scope=None,
        replies={200: Reply(says="It does.", schema="Health", example={"status": "ok"})},
    ),
    Operation(
        method="get",
        path="/readyz",
        id="readyz",
        tag=SERVICE,
        summary="Can it do its work?",
        says="The database answers, is migrated and can be written to; 503 names what fails. With "
        "`?require=workers` also: a worker that does not drain was seen in the last 30 seconds. "
        "Answers whatever the Host header says.",
        scope=None,
        replies={
            200: Reply(
                says="It can.",
                schema="Readiness",
                example={"status": "ready", "checks": {"database": "ok", "migrations": "ok"}},
            )
        },
    ),
    Operation(
        method="get",
        path="/metrics",
        id="metrics",
        tag=SERVICE,
        summary="Numbers for Prometheus",
        says="Prometheus' text format, or OpenMetrics where the Accept header asks for it.",
        scope=Scope.METRICS,
        replies={200: Reply(says="The numbers.", content_type="text/plain")},
    ),
    Operation(
        method="get",
        path="/openapi.json",
        id="openapi",
        tag=SERVICE,
        summary="This document",
        says="OpenAPI 3.1; it holds nothing that is secret.",
        scope=None,
        parameters=("if_none_match",),
        replies={
            200: Reply(
                says="The document.",
                schema="Document",
                example={"openapi": "3.1.0"},
                headers=("ETag", "Cache-Control"),
            ),
            304: Reply(says="It is as it was.", headers=("ETag",)),
        },
    ),
    Operation(
        method="get",
        path="/docs",
        id="docs",
        tag=SERVICE,
        summary="This document as a page",
        says="For people; it needs neither a script nor anything from elsewhere.",
        scope=None,
        parameters=("if_none_match",),
        replies={
            200: Reply(says="The page.", content_type="text/html", headers=("ETag", "Cache-Control")),
            304: Reply(says="It is as it was.", headers=("ETag",)),
        },
    ),
)
