"""What operators are told of the policy, of tokens and keys, and of lookups."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric

from extauthz import policy
from extauthz.errors import ConfigurationError, Problem, Unavailable
from extauthz.identity.tokens import TokenAuthenticator
from extauthz.lookup.kfp import KfpLookup
from extauthz.observe import families
from extauthz.policy.reload import PolicyWatch
from extauthz.settings import KfpLookupSettings
from extauthz.settings.identity import Identity, JwtIssuer, Keys
from tests.cases import DATA
from tests.issuer import ABSENT, Issuer, KeyServer


def told(found: Iterable[Metric]) -> dict[str, float]:
    """Return each sample by its name and the values of its labels."""
    samples = (sample for family in found for sample in family.samples)
    return {" ".join((sample.name, *sample.labels.values())): sample.value for sample in samples}


async def test_changes_of_the_policy(tmp_path: Path) -> None:
    """A change that was taken and one that was not are told apart, and whether the newest files serve."""
    good = policy.load([DATA / "cases" / "policy.yaml"], {})
    broken = ConfigurationError(Problem("broken"))
    answers: list[policy.Policy | ConfigurationError] = [good, broken, broken]

    def load() -> policy.Policy:
        answer = answers.pop(0)
        if isinstance(answer, ConfigurationError):
            raise answer
        return answer

    watch = PolicyWatch([tmp_path], load=load, changed=lambda loaded: None)
    await watch.reload()
    assert told(families.policy(watch))["extauthz_policy_current"] == 1
    await watch.reload()
    await watch.reload()
    assert told(families.policy(watch)) == {
        "extauthz_policy_reloads_total taken": 1,
        "extauthz_policy_reloads_total refused": 2,
        "extauthz_policy_current": 0,
    }


async def test_tokens_and_keys() -> None:
    """A token is verified once, then remembered; fetches count by how they ended."""
    issuer = Issuer()
    async with KeyServer(issuer) as server:
        keys = Keys(url=f"{server.url}/jwks", cooldown_seconds=1)
        identity = Identity(jwt=[JwtIssuer(issuer=issuer.name, audiences=[issuer.audience], keys=keys)])
        tokens = TokenAuthenticator(identity, resolve=Path)
        (store,) = tokens.stores
        await store._fetched()
        credential = ("authorization", f"Bearer {issuer.token(iat=ABSENT, exp=4_000_000_000)}")
        assert tokens.verify(credential) == tokens.verify(credential)
        server.fault = "error"
        await store._fetched()
        assert told(families.tokens(tokens)) == {
            "extauthz_tokens_verified_total": 1,
            "extauthz_tokens_remembered": 1,
            f"extauthz_key_fetches_total {issuer.name} fetched": 1,
            f"extauthz_key_fetches_total {issuer.name} failed": 1,
            f"extauthz_issuer_keys {issuer.name}": 1,
        }


async def test_lookups() -> None:
    """A lookup that nobody answers is a miss, a call and a failure."""
    lookup = KfpLookup(KfpLookupSettings(url="http://127.0.0.1:1", token_file=Path(__file__)))
    await lookup.start()
    answer = lookup.namespace("run", "a", "alice")
    assert answer is not None
    with pytest.raises(Unavailable):
        await answer  # type: ignore[misc]  # it is not at hand
    await lookup.stop()
    found = told(families.lookups(lookup))
    assert (found["extauthz_lookups_total miss"], found["extauthz_lookup_failures_total"]) == (1, 1)
