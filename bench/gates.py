"""The limits of what a check may cost, and what a run says of them. A ratio is to the no-op of the same run."""

from __future__ import annotations

from collections.abc import Iterable

from bench.row import Gate, Row

HTTP, GRPC = "native-http", "native-grpc"
OPA = "opa-envoy"
OPA_ENGINE = "opa-engine"
ENGINE_NOTE = "beside OPA's engine in a bare server, which costs less than OPA-Envoy"
DECISION_ALONE = 0.11
"""10 µs where verifying takes 90."""


class Rows:
    """Finds rows."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = {(row.scenario, row.server): row for row in rows}

    def get(self, scenario: str, server: str) -> Row | None:
        """Return a row, or None where it was not measured."""
        return self._rows.get((scenario, server))

    def cpu(self, scenario: str, server: str) -> float | None:
        """Return CPU microseconds per check."""
        row = self.get(scenario, server)
        return row.cpu_us if row else None

    def quotient(self, one: tuple[str, str], other: tuple[str, str]) -> float | None:
        """Return the CPU of one row in that of another."""
        mine, theirs = self.cpu(*one), self.cpu(*other)
        return mine / theirs if mine and theirs else None


def gates_of(run: str, rows: Rows) -> list[Gate]:
    """Return the gates of a run: of `bench`, or of `peers`."""
    return peer_gates(rows) if run == "peers" else gates(rows)


def gates(rows: Rows) -> list[Gate]:
    """Return every gate of a run without peers."""
    return [
        *(
            Gate(
                f"{edge}, decision alone: CPU beside verifying its token with PyJWT",
                rows.quotient(("decision alone", edge), ("token verified", "PyJWT, RS256")),
                DECISION_ALONE,
            )
            for edge in (HTTP, GRPC)
        ),
        *_edges(rows),
        Gate(
            "3,000 rules beside 10, CPU per check",
            rows.quotient(("policy, 3,000 rules", HTTP), ("policy, 10 rules", HTTP)),
            1.2,
        ),
        Gate(
            "1,000,000 kept reviews beside 1,000, CPU per check",
            rows.quotient(("cache, 1,000,000 reviews", HTTP), ("cache, 1,000 reviews", HTTP)),
            1.3,
        ),
        Gate("MB resident with 100,000 reviews and 10,000 tokens", _resident(rows, "memory, full", "extauthz"), 150),
        Gate("MB resident when idle", _resident(rows, "cold start", "extauthz, native"), 90),
        Gate("seconds from start to ready", _more(rows, "cold start", "extauthz, native", "seconds"), 2),
        Gate("reviews allowed after the settling time", _more(rows, "revocation", "extauthz", "allowedLate"), 0),
    ]


def peer_gates(rows: Rows) -> list[Gate]:
    """Return the gates beside peers."""
    opa = OPA if rows.cpu("edge, saturated", OPA) else OPA_ENGINE
    note = "" if opa == OPA else ENGINE_NOTE
    return [
        Gate(
            f"{edge} beside {opa}, CPU per check at saturation",
            rows.quotient(("edge, saturated", edge), ("edge, saturated", opa)),
            0.3,
            note,
        )
        for edge in (GRPC, HTTP)
    ]


def _edges(rows: Rows) -> Iterable[Gate]:
    limits = [
        (HTTP, "edge, saturated", 1.25),
        (HTTP, "Envoy, 300/s", 1.0),
        (GRPC, "edge, saturated", 1.0),
        (GRPC, "Envoy, 300/s", 1.0),
    ]
    for edge, scenario, limit in limits:
        row = rows.get(scenario, edge)
        yield Gate(f"{edge}, {scenario}: CPU beside the Go no-op", row.ratio if row else None, limit)
    for edge in (HTTP, GRPC):
        row = rows.get("Envoy, 300/s", edge)
        yield Gate(f"{edge}, Envoy, 300/s: p99 beside the Go no-op", row.p99_ratio if row else None, 1.3)


def _resident(rows: Rows, scenario: str, server: str) -> float | None:
    row = rows.get(scenario, server)
    return row.rss_mb if row else None


def _more(rows: Rows, scenario: str, server: str, name: str) -> float | None:
    row = rows.get(scenario, server)
    return row.more.get(name) if row else None
