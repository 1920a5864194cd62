"""What the parts say of themselves before they are well."""

from __future__ import annotations

from pathlib import Path

from extauthz.access import authority
from extauthz.console.health import Part, parts
from extauthz.identity import Authenticators
from extauthz.settings import Access
from extauthz.settings.identity import Identity


def told(folder: Path, access: dict[str, object]) -> list[Part]:
    """Return the parts of a service that has not been started."""
    jwt = {"issuer": "https://idp.example", "audiences": ["a"], "keys": {"file": "keys.json"}}
    identity = Identity.model_validate({"jwt": [jwt]})
    known = authority.of(Access.model_validate(access), folder.joinpath)
    return parts(identity, Authenticators(identity, resolve=folder.joinpath), known, None)


async def test_an_issuer_without_keys_is_bad(tmp_path: Path) -> None:
    """And says why, without a promise of how long its keys serve."""
    issuer, _ = told(tmp_path, {"kubernetes": {}})
    facts = dict(issuer.facts)
    assert (issuer.name, issuer.state, issuer.word) == ("Issuer https://idp.example", "bad", "no keys")
    assert facts["Keys"] == "none yet"
    assert "not fetched yet" in facts["Problem"]
    assert not any(name.startswith("Serve") for name in facts)


async def test_a_cluster_that_is_not_connected_is_bad(tmp_path: Path) -> None:
    """Nothing else is said of it."""
    _, cluster = told(tmp_path, {"kubernetes": {}})
    assert (cluster.state, cluster.word, list(cluster.facts)) == ("bad", "not connected", [])
