"""How fast tasks come in through POST /tasks/batch, beside the inserts alone, in as many commits."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor

from bench.databases import Kind
from bench.options import Options
from bench.report import Facts, Line, at_least
from bench.samples import Spread
from bench.service import Api, Failed, api, fresh_service

SIZE = 1_000  # tasks of one request
REQUESTS = 20
CLIENTS = 2
BODY = json.dumps({"tasks": [{"title": "bench", "handler": "bench.noop", "payload": {"n": 1}}] * SIZE})
TARGETS = {"sqlite": 6_000, "postgres": 6_000}  # tasks per second


def measure(kind: Kind, options: Options) -> Facts:
    runs, floors = [], []
    for _ in range(options.runs):  # in turn: whatever else the machine does, it does to both
        with fresh_service(kind) as service, api(service) as server:
            _post(server, 1)  # each process has to have its first request behind it
            began = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as clients:
                list(clients.map(lambda _: _post(server, REQUESTS // CLIENTS), range(CLIENTS)))
            runs.append(REQUESTS * SIZE / (time.perf_counter() - began))
        with fresh_service(kind) as service:
            floors.append(float(service.inside("inserts", REQUESTS, SIZE)))
    return {"per_second": Spread((*runs,)).facts(), "raw_per_second": Spread((*floors,)).facts()}


def lines(name: str, facts: Facts) -> list[Line]:
    rates, floor = Spread.of(facts["per_second"]), Spread.of(facts["raw_per_second"])
    what = f"POST /tasks/batch, {SIZE:,} tasks each, {CLIENTS} clients"
    return [
        at_least(what, rates.middle, TARGETS[name], unit=" /s", text=f"{rates} tasks/s"),
        Line("  the same inserts alone, without HTTP and checks", f"{floor} tasks/s"),
    ]


def _post(server: Api, requests: int) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    for _ in range(requests):
        connection.request("POST", "/tasks/batch", BODY)
        with connection.getresponse() as answer:
            answer.read()
            if answer.status != 201:
                raise Failed(f"status {answer.status}")
    connection.close()
