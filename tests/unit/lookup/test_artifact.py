"""An artifact belongs to the namespace in the prefix of its key, or to nobody."""

from __future__ import annotations

import pytest

from extauthz.lookup.artifact import namespace_of_key, run_of_key


@pytest.mark.parametrize(
    ("key", "owner"),
    [
        ("private-artifacts/team-a/run/x.tgz", "team-a"),
        ("private/team-a/x", "team-a"),
        ("private-artifacts/team-a/", "team-a"),
        ("private-artifacts/team-a/x/", "team-a"),
        ("private-artifacts/team-a/a b", "team-a"),
        ("private-artifacts/team-a/x..y", "team-a"),
        ("private-artifacts/" + "a" * 63 + "/x", "a" * 63),
        ("private-artifacts/team-a", None),
        ("private-artifacts/", None),
        ("private-artifacts", None),
        ("private-artifacts//team-a/x", None),
        ("/private-artifacts/team-a/x", None),
        ("x/private-artifacts/team-a/x", None),
        ("xprivate-artifacts/team-a/x", None),
        ("private-artifactsx/team-a/x", None),
        ("artifacts/team-a/x", None),
        ("v2/artifacts/team-a/x", None),
        ("Private-Artifacts/team-a/x", None),
        ("private-artifacts/Team-A/x", None),
        ("private-artifacts/-/x", None),
        ("private-artifacts/-a/x", None),
        ("private-artifacts/a-/x", None),
        ("private-artifacts/" + "a" * 64 + "/x", None),
        ("private-artifacts/*/x", None),
        ("private-artifacts/team-a\n/x", None),
        ("private-artifacts/team-a/../team-b/x", None),
        ("private-artifacts/team-a/..", None),
        ("private-artifacts/team-a/.", None),
        ("private-artifacts/./team-a/x", None),
        ("private-artifacts/../private-artifacts/team-a/x", None),
        ("private-artifacts/team-a//x", None),
        ("private-artifacts/team-a/x\\..\\y", None),
        ("private-artifacts/team-a/%2e%2e/team-b/x", None),
        ("private-artifacts/team-a/x%2F", None),
        ("private-artifacts/team-a/x?versionId=1", None),
        ("private-artifacts/team-a/x#y", None),
        ("private-artifacts/team-a/x\x00", None),
        ("private-artifacts/team-a/x\r\ny", None),
        ("private-artifacts/team-a/\u2024\u2024/x", "team-a"),
        ("", None),
    ],
)
def test_owner_of_a_key(key: str, owner: str | None) -> None:
    """The prefix is the authority; a key that a store or client could read otherwise tells nothing."""
    assert namespace_of_key(key) == owner


RUN = "0f8e1d2c-3b4a-4c5d-8e6f-7a8b9c0d1e2f"


@pytest.mark.parametrize(
    ("key", "run"),
    [
        (f"v2/artifacts/pipeline/{RUN}/task/x", RUN),
        (f"v2/artifacts/pipeline/{RUN}/", RUN),
        (f"v2/artifacts/pipeline/{RUN}", None),
        (f"v2/artifacts/{RUN}/x", None),
        (f"v2/artifacts/a/b/{RUN}/x", None),
        (f"x/v2/artifacts/pipeline/{RUN}/x", None),
        (f"v2/artifacts/pipeline/{RUN.upper()}/x", None),
        (f"v2/artifacts/pipeline/{RUN}/../x", None),
        (f"v2/artifacts/../{RUN}/x", None),
        (f"v2/artifacts//{RUN}/x", None),
        (f"v2/artifacts/pipeline/{RUN}/%2e%2e/x", None),
        (f"v2/artifacts/a%2Fb/{RUN}/x", None),
        (f"private-artifacts/team-a/{RUN}/x", None),
    ],
)
def test_run_of_a_key(key: str, run: str | None) -> None:
    """The older layout holds the run's id in one place only."""
    assert run_of_key(key) == run
