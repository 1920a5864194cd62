"""How much memory the whole service takes with many tokens and reviews in its caches.

    python -m bench.memory [--tokens 10000] [--reviews 100000] [--distinct] [--json FILE]

The service runs as its own process against the test API server, with a ServiceAccount's files
as in a pod (a kubeconfig takes 13 MB more, for the package that reads it); every token and every
review comes in through the HTTP edge. What counts is the resident memory of the service's
process. `--distinct` gives each user namespaces of their own, so that no two reviews share
a word; else all users ask about the same ten namespaces.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shlex
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from aiohttp import ClientSession, TCPConnector
from yarl import URL

from tests.apiserver import Cluster
from tests.apiserver.manifests import binding, group, role, rule
from tests.apiserver.tokens import EXTAUTHZ
from tests.issuer import ABSENT, Issuer

REPOSITORY = Path(__file__).parent.parent
AT_ONCE = 32
RIGHTS = rule(["list"], ["runs"], ["pipelines.kubeflow.org"])
MOUNTED = "/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, slots=True)
class Result:
    """Resident memory of the service's process, in bytes."""

    tokens: int
    reviews: int
    distinct: bool
    at_start: int
    with_tokens: int
    with_reviews: int


@asynccontextmanager
async def process(*command: str, ready: str) -> AsyncIterator[tuple[Process, str]]:
    """Run a command until the block ends; yield it and the first line that holds `ready`."""
    started = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    assert started.stdout
    assert started.stderr
    try:
        line = told = ""
        while ready not in line:
            stream = started.stderr if ready.startswith("serving") else started.stdout
            line = (await stream.readline()).decode()
            told += line
            if not line:
                raise SystemExit(f"{' '.join(command)} ended before it served: {told}")
        yield started, line
    finally:
        started.kill()
        await started.wait()


def in_pod(url: str, account: Path, *command: str) -> list[str]:
    """Return a command that finds itself in a pod, by its ServiceAccount's files and its environment."""
    address = URL(url)
    python = shlex.join([sys.executable, "-m", *command])
    mounted = f"mount -t tmpfs tmpfs /run && mkdir -p {MOUNTED} && cp {shlex.quote(str(account))}/* {MOUNTED}"
    named = f"KUBERNETES_SERVICE_HOST={address.host} KUBERNETES_SERVICE_PORT={address.port}"
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", f"{mounted} && {named} exec {python}"]


def write_account(folder: Path, authority: Path) -> Path:
    """Write the files of a ServiceAccount, as they are mounted into a pod."""
    account = folder / "account"
    account.mkdir()
    (account / "token").write_text(EXTAUTHZ)
    (account / "ca.crt").write_bytes(authority.read_bytes())
    return account


def write_settings(folder: Path, issuer: Issuer) -> Path:
    """Write the service's settings: nothing ends by its time while we measure."""
    (folder / "jwks.json").write_bytes(issuer.jwks())
    keys = {"file": str(folder / "jwks.json")}
    settings = {
        "apiVersion": "extauthz.dev/v1",
        "kind": "Settings",
        "listeners": {edge: {"address": "127.0.0.1:0"} for edge in ("grpc", "http", "admin")},
        "identity": {"jwt": [{"issuer": issuer.name, "audiences": [issuer.audience], "keys": keys}]},
        "access": {"kubernetes": {"cache": {"allowSeconds": 3600}}},
        "policy": {"paths": [str(folder / "policy.yaml")]},
    }
    (folder / "policy.yaml").write_text(POLICY)
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


POLICY = """
apiVersion: extauthz.dev/v1
kind: Policy
rules:
- name: runs
  match: {methods: [GET], path: /runs}
  access: [{verb: list, group: pipelines.kubeflow.org, resource: runs, namespace: query:namespace}]
"""


def tokens(issuer: Issuer, count: int) -> list[str]:
    """Sign tokens of the size that identity providers give, one for each user."""
    now = int(time.time())
    return [
        issuer.token(
            sub=f"user-{number}@example.com", email=f"user-{number}@example.com", name=f"User {number} of the platform",
            groups=["data-science", "platform-users", f"team-{number % 100}"], iat=now, exp=now + 3600, nbf=ABSENT,
        )
        for number in range(count)
    ]  # fmt: skip


def namespaces(user: int, count: int, *, distinct: bool) -> list[str]:
    """Return the namespaces that a user asks about."""
    return [f"profile-of-user-{user}-{number}" if distinct else f"team-{number}" for number in range(count)]


async def ask_all(client: ClientSession, url: str, questions: Iterator[tuple[str, str]]) -> None:
    """Ask everything once, some at a time."""

    async def one(token: str, namespace: str) -> int:
        headers = {"authorization": f"Bearer {token}"}
        async with client.get(f"{url}/runs?namespace={namespace}", headers=headers) as response:
            return response.status

    async def ask() -> None:
        for token, namespace in questions:
            while (status := await one(token, namespace)) == 503:
                pass  # a busy machine is no reason to give up
            if status != 200:
                raise SystemExit(f"not allowed: HTTP {status}")

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))


def resident(running: Process) -> int:
    """Return the resident memory of a process in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{running.pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


async def measure(folder: Path, users: int, reviews: int, *, distinct: bool) -> Result:
    """Fill the caches of a service; return its memory before, between and after."""
    issuer = Issuer()
    signed, each = tokens(issuer, users), reviews // users
    served = folder / "server"
    server = (sys.executable, "-m", "tests.apiserver", "--folder", str(served), "--tls")
    async with process(*server, ready="{") as (_, told), ClientSession(connector=TCPConnector(limit=0)) as client:
        url = json.loads(told)["url"]
        authority = served / "pki" / "ca.crt"
        async with Cluster(url, authority, served) as cluster:
            await cluster.apply(role("reader", RIGHTS), binding("all", "reader", group("system:authenticated")))
        file = write_settings(folder, issuer)
        command = in_pod(url, write_account(folder, authority), "extauthz", "serve", "--config", str(file))
        async with process(*command, ready="serving:") as (service, line):
            ports = dict(re.findall(r"(grpc|http|admin) (\d+)", line.partition("serving:")[2]))
            url = f"http://127.0.0.1:{ports['http']}"
            await ask_all(client, url, iter([(signed[0], "warm-up")]))
            await asyncio.sleep(2)  # answers from the settling time are kept no longer than that
            at_start = resident(service)
            rows = [namespaces(user, each, distinct=distinct) for user in range(users)]
            await ask_all(client, url, ((signed[user], rows[user][0]) for user in range(users)))
            with_tokens = resident(service)
            rest = ((signed[user], rows[user][column]) for column in range(1, each) for user in range(users))
            await ask_all(client, url, rest)
            async with client.get(f"http://127.0.0.1:{ports['admin']}/metrics") as response:
                kept = re.search(r"^extauthz_review_cache_entries (\S+)", await response.text(), re.MULTILINE)
            assert kept
            return Result(users, int(float(kept[1])), distinct, at_start, with_tokens, resident(service))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--reviews", type=int, default=100_000)
    parser.add_argument("--distinct", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(measure(Path(folder), arguments.tokens, arguments.reviews, distinct=arguments.distinct))
    print(f"{'':28} {'MB':>7}")
    print(f"{'at start':28} {result.at_start / 1e6:7.1f}")
    print(f"{f'{result.tokens} tokens, one review each':28} {result.with_tokens / 1e6:7.1f}")
    print(f"{f'{result.reviews} reviews kept':28} {result.with_reviews / 1e6:7.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(result), indent=2) + "\n")


if __name__ == "__main__":
    main()
