"""The packaged list of routes is the reference's, whole and in its order.

Write it anew with `python -m tests.policies.test_route_list`.
"""

from __future__ import annotations

from extauthz import policytest
from extauthz.policytest import coverage
from tests.policies import reference

HEAD = """\
# The known routes of Kubeflow: placement, method, path, and the host where a route has its own.
# Made from the reference files of the tests, which hold it; do not edit.
"""


def rendered() -> str:
    """Return the list as the reference gives it."""
    lines = []
    for row in reference.rows():
        host = row.given.get("host:", "").replace("$tenant", "namespace")
        for placement, path in row.places() if row.kind != "nowhere" else ():
            lines.append(" ".join(filter(None, (placement, row.method, path.partition("?")[0], host))))
    return HEAD + "\n".join(dict.fromkeys(lines)) + "\n"


def test_the_list_is_complete() -> None:
    """Every row that a placement guards is in it, and nothing else."""
    assert coverage.ROUTES.read_text() == rendered()


def test_every_route_is_read() -> None:
    """No line is lost, and each has a placement, a method and a path."""
    read = coverage.routes()
    assert len(read) == len(rendered().splitlines()) - HEAD.count("\n")
    assert all(route.path.startswith("/") and route.placement for route in read)
    assert policytest.Route("gateway", "GET", "/pipeline/apis/v2beta1/runs") in read


if __name__ == "__main__":
    coverage.ROUTES.write_text(rendered())
