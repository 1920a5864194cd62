"""`extauthz doctor`: each planted fault is found and nothing else, and what is well is left in peace."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession, web
from typer.testing import CliRunner, Result

from extauthz import doctor, settings
from extauthz.access import authority
from extauthz.cli import app
from extauthz.doctor import asked, manifests
from extauthz.doctor.manifests import Manifest
from extauthz.errors import ConfigurationError
from extauthz.service import Service
from tests.apiserver import Double
from tests.apiserver.cluster import write_kubeconfig
from tests.apiserver.fixtures import double
from tests.apiserver.manifests import delegate
from tests.cases import DATA
from tests.issuer import Issuer
from tests.mesh.kustomize import ISTIO, OVERLAYS, build, render

__all__ = ["double"]

FIXTURES = DATA / "doctor"
FAULTS = sorted(file for file in FIXTURES.glob("*.yaml") if file.stem != "kubeflow")
CHECKS = {"direct-access-to-profiles": "direct-access"}
"""Where a fixture's name is not that of the check."""


def overlay(name: str = "kubeflow") -> list[Manifest]:
    """The objects of an overlay."""
    return [Manifest(found) for found in build(ISTIO / "overlays" / name)]


def good() -> list[Manifest]:
    """A stock Kubeflow with the overlay for it, applied in this order."""
    return [*manifests.read([FIXTURES / "kubeflow.yaml"]), *overlay()]


def invoke(*arguments: object, text: str | None = None) -> Result:
    """Run the command."""
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)], input=text)


@pytest.mark.parametrize("name", OVERLAYS)
def test_silent_about_the_overlays(name: str) -> None:
    """What is shipped has no fault."""
    assert doctor.examine(overlay(name)) == []


def test_silent_about_a_guarded_kubeflow() -> None:
    """Nor has a stock Kubeflow with the overlay for it."""
    assert doctor.examine(good()) == []


def test_a_kubeflow_without_extauthz_lies_open() -> None:
    """The faults that the overlay mends are found before it is applied."""
    found = doctor.examine(manifests.read([FIXTURES / "kubeflow.yaml"]))
    assert [(finding.check, str(finding.where)) for finding in found] == [
        ("direct-access", "AuthorizationPolicy kubeflow/ml-pipeline")
    ]


@pytest.mark.parametrize("file", FAULTS, ids=lambda file: file.stem)
def test_each_planted_fault_is_found(file: Path) -> None:
    """One fault, applied over what is well, gives its own finding and no other, with what comes of it and a fix."""
    found = doctor.examine([*good(), *manifests.read([file])])
    assert {finding.check for finding in found} == {CHECKS.get(file.stem, file.stem)}
    for finding in found:
        assert finding.where is not None
        assert len(finding.what) > 40
        assert finding.fix
        assert finding.text().startswith(finding.severity.upper())


def test_every_check_of_manifests_has_a_fixture() -> None:
    """No check is without a planted fault."""
    checks = set()
    for module in (ISTIO.parent / "extauthz" / "doctor").glob("*.py"):
        if module.stem not in ("running", "asked"):
            lines = module.read_text().splitlines()
            checks |= {
                line.strip(' ",')
                for before, line in pairwise(lines)
                if before.strip() in ("yield critical(", "yield warning(")
            }
    assert checks >= {"fail-open", "two-providers", "direct-access"}
    assert checks <= {file.stem for file in FAULTS}


def test_a_finding_tells_file_and_line(tmp_path: Path) -> None:
    """The place of an object is that of its document, or of its item in a list."""
    fault = yaml.safe_load((FIXTURES / "provider-missing.yaml").read_text())
    file = tmp_path / "all.yaml"
    file.write_text("---\nkind: Other\n---\n" + yaml.safe_dump({"kind": "List", "items": [{"kind": "x"}, fault]}))
    (finding,) = doctor.examine(manifests.read([tmp_path]))
    assert finding.fields()["file"] == str(file)
    assert file.read_text().splitlines()[finding.fields()["line"] - 1].startswith("- apiVersion: security")  # type: ignore[operator]
    assert f"{file}:{finding.fields()['line']}" in finding.text()


def test_the_command_tells_what_and_fix() -> None:
    """Findings in words, their number, and exit code 1; JSON holds the same."""
    fault = FIXTURES / "timeout-missing.yaml"
    done = invoke(fault)
    assert done.exit_code == 1
    assert "CRITICAL  timeout-missing  ConfigMap istio-system/extauthz-mesh" in done.stdout
    assert "Fix:  set timeout: 2s" in done.stdout
    assert "1 critical, 0 to watch in 1 objects" in done.stdout
    (finding,) = json.loads(invoke(fault, "-o", "json").stdout)["findings"]
    assert (finding["check"], finding["severity"], finding["line"]) == ("timeout-missing", "critical", 1)


def test_a_misnamed_provider_is_guessed() -> None:
    """The name that was probably meant is told, and where there is none, which ones there are."""
    policies = manifests.read([FIXTURES / "provider-missing.yaml"])
    (near,) = doctor.examine([*overlay(), *policies])
    assert near.fix.startswith("did you mean 'rbac-extauthz-grpc'? Else define it")
    (far,) = doctor.examine([*manifests.read([FIXTURES / "timeout-too-short.yaml"]), *unknown(policies)])
    assert "defined: rbac-extauthz-grpc, rbac-extauthz-http" in far.what
    assert far.fix.startswith("define it")


def unknown(policies: list[Manifest]) -> list[Manifest]:
    """The same policies with a provider that is like no other."""
    return [Manifest({**found.data, "spec": {**found.spec, "provider": {"name": "zzz"}}}) for found in policies]


def test_manifests_come_through_a_pipe() -> None:
    """`kubectl kustomize … | extauthz doctor -` says that all is well."""
    done = invoke("-", text=render(ISTIO / "overlays" / "kubeflow"))
    assert (done.exit_code, done.stdout) == (0, "ok: nothing found in 22 objects\n")


@pytest.mark.parametrize(
    "arguments", [(), ("--live", "x.yaml"), ("--context", "x", "x.yaml"), ("--kubeconfig", "x", "x.yaml")]
)
def test_usage(arguments: tuple[str, ...]) -> None:
    """What cannot be meant is refused with exit code 2."""
    assert invoke(*arguments).exit_code == 2


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A folder without manifests, and a file that is no YAML, name their place."""
    (tmp_path / "x.yaml").write_text("a: [")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "x.yaml", tmp_path / "empty", tmp_path / "nothing.yaml"):
        with pytest.raises(ConfigurationError, match=str(path)):
            manifests.read([path])


def spoilt(data: Any, other: object, place: int) -> Any:
    """The data with another value in one of its places."""
    left = [place]

    def walk(value: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            return other
        if isinstance(value, dict):
            return {key: item if key == "kind" else walk(item) for key, item in value.items()}
        return [walk(item) for item in value] if isinstance(value, list) else value

    return walk(data)


@pytest.mark.parametrize("file", [FIXTURES / "kubeflow.yaml", *FAULTS], ids=lambda file: file.stem)
def test_no_object_is_too_odd(file: Path) -> None:
    """Whatever stands in place of a field, doctor says what it can and does not break."""
    objects = [*(Manifest(found) for found in build(ISTIO / "overlays" / "kubeflow")), *manifests.read([file])]
    chance = random.Random(0)
    for found in manifests.read([file]):
        for _ in range(8):
            odd = spoilt(dict(found.data), chance.choice([None, 1, "x", [], {}, ["x"], [None]]), chance.randint(2, 40))
            doctor.examine([*objects, Manifest(odd)])


# What runs


@asynccontextmanager
async def serving(folder: Path, double: Double, keys: str) -> AsyncIterator[Service]:
    """A service that asks a cluster, whether it becomes ready or not."""
    issuer = Issuer()
    content = {
        "apiVersion": "extauthz.dev/v1",
        "kind": "Settings",
        "listeners": {edge: {"address": "127.0.0.1:0"} for edge in ("grpc", "http", "admin")},
        "identity": {"jwt": [{"issuer": issuer.name, "audiences": [issuer.audience], "keys": {"url": keys}}]},
        "access": {"kubernetes": {"kubeconfig": str(double.kubeconfig())}},
        "policy": {"paths": [str(DATA / "cases" / "policy.yaml")]},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(content))
    service = Service(settings.load(folder / "settings.yaml"))
    started = asyncio.create_task(service.start())
    try:
        yield service
    finally:
        started.cancel()
        await asyncio.wait([started])
        await service.stop()


async def until_told(service: Service, check: str) -> list[doctor.Finding]:
    """Ask the admin listener until it speaks of a check; the test's own time limit ends what never comes."""
    async with asyncio.timeout(60):
        while True:
            try:
                found = await asked.listener(f"http://127.0.0.1:{service.admin_port}")
            except (ConfigurationError, AssertionError, RuntimeError):
                found = []
            if check in {finding.check for finding in found}:
                return found
            await asyncio.sleep(0.05)


@pytest.fixture
def closed() -> Iterable[str]:
    """An address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/jwks"


async def test_a_running_pod_tells_of_its_keys(tmp_path: Path, double: Double, closed: str) -> None:
    """Keys that cannot be fetched are named with their issuer."""
    async with serving(tmp_path, double, closed) as service:
        found = await until_told(service, "keys-unreachable")
    assert {finding.check for finding in found} >= {"keys-unreachable", "not-ready"}
    assert Issuer().name in next(finding.what for finding in found if finding.check == "keys-unreachable")


async def test_a_running_pod_tells_of_its_watch(
    tmp_path: Path, double: Double, closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that the cluster forbids is named with its resource."""
    monkeypatch.setattr(authority, "PROBE_SECONDS", 0.01)
    for found in delegate():
        if found["metadata"]["name"] == "extauthz-watch" and found["kind"] == "ClusterRoleBinding":
            double.erase(found)
    double.settle()
    async with serving(tmp_path, double, closed) as service:
        told = await until_told(service, "watch-forbidden")
    assert "roles" in next(finding.what for finding in told if finding.check == "watch-forbidden")


@asynccontextmanager
async def answering(pages: dict[str, Any], date: datetime | None = None) -> AsyncIterator[str]:
    """A server of some pages, with a clock of its own."""
    asked_for: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked_for.append(request.path)
        headers = {"Date": format_datetime(date, usegmt=True)} if date else {}
        if request.path not in pages:
            return web.Response(status=404, headers=headers)
        page = pages[request.path]
        if isinstance(page, web.StreamResponse | int):
            return web.Response(status=page if isinstance(page, int) else 200)
        return web.Response(text=page if isinstance(page, str) else json.dumps(page), headers=headers)

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


READY = {"ready": True, "blockers": [], "warnings": []}


@pytest.mark.parametrize(
    ("minutes", "seconds", "told"),
    [(0, 0, []), (5, 0, ["critical"]), (-5, 0, ["critical"]), (0, 20, ["warning"])],
)
async def test_a_clock_that_is_wrong(minutes: int, seconds: int, told: list[str]) -> None:
    """Beyond the leeway of tokens it is critical; a little is to watch."""
    date = datetime.now(UTC) + timedelta(minutes=minutes, seconds=seconds)
    async with answering({"/readyz": READY, "/metrics": ""}, date) as url:
        found = await asked.listener(url)
    assert [(finding.check, finding.severity) for finding in found] == [("clock-skew", severity) for severity in told]


async def test_what_a_pod_says_of_itself() -> None:
    """Reasons not to be ready are critical, warnings are to watch."""
    state = {"ready": False, "blockers": ["no policy"], "warnings": ["old policy"]}
    async with answering({"/readyz": state, "/metrics": ""}) as url:
        found = await asked.listener(url)
    assert [(finding.check, finding.severity) for finding in found] == [
        ("not-ready", "critical"),
        ("degraded", "warning"),
    ]


async def test_another_server_is_not_taken_for_extauthz() -> None:
    """What does not answer as an admin listener is an error, not a clean bill of health."""
    async with answering({"/readyz": {"ok": True}, "/metrics": ""}) as url:
        with pytest.raises(ConfigurationError, match="does not answer as an admin listener"):
            await asked.listener(url)


POD = {
    "metadata": {"name": "extauthz-1", "namespace": "extauthz"},
    "spec": {"containers": [{"ports": [{"name": "admin", "containerPort": 9002}]}]},
}
PROXY = "/api/v1/namespaces/extauthz/pods/extauthz-1:9002/proxy"


def cluster_pages(objects: Iterable[Manifest]) -> dict[str, Any]:
    """What an API server answers that has these objects, and one pod."""
    pages: dict[str, Any] = {"/version": {}, "/api/v1/pods": {"items": [POD]}}
    for path, kind in asked._RESOURCES.items():
        items = [dict(found.data) for found in objects if found.kind == kind]
        pages[f"/{path}"] = {"items": [item for item in items if "namespaces/" not in path or
                                       f"namespaces/{item['metadata']['namespace']}/" in path]}  # fmt: skip
    return pages


async def live(folder: Path, pages: dict[str, Any], date: datetime | None = None) -> list[str]:
    """The checks that fail in a cluster with these pages."""
    async with answering(pages, date) as url:
        kubeconfig = write_kubeconfig(folder / "kubeconfig", {"server": url}, {"token": "x"})
        objects, found = await asked.cluster(kubeconfig, None)
    return [finding.check for finding in (*doctor.examine(objects), *found)]


async def test_a_live_cluster_is_examined(tmp_path: Path) -> None:
    """Objects are read and pods asked through the API server; what is well is left in peace."""
    pages = {**cluster_pages(good()), f"{PROXY}/readyz": READY, f"{PROXY}/metrics": ""}
    assert await live(tmp_path, pages) == []
    del pages["/apis/networking.istio.io/v1/sidecars"]  # a cluster without this kind
    pages[f"{PROXY}/readyz"] = {**READY, "blockers": ["x"]}
    assert await live(tmp_path, pages) == ["not-ready"]


async def test_a_live_fault_is_found(tmp_path: Path) -> None:
    """A planted fault is found in a cluster as in a file, and a pod that cannot be asked is told."""
    objects = [*good(), *manifests.read([FIXTURES / "fail-open.yaml"])]
    pages = cluster_pages({(item.kind, item.namespace, item.name): item for item in objects}.values())
    assert await live(tmp_path, pages) == ["fail-open", "pod-not-asked"]


async def test_a_cluster_that_does_not_tell(tmp_path: Path) -> None:
    """Without the rights to look nothing is called well."""
    pages = {**cluster_pages(good()), "/api/v1/services": 403}
    with pytest.raises(ConfigurationError, match="services cannot be read: HTTP 403"):
        await live(tmp_path, pages)


async def test_the_command_looks_at_a_cluster_and_at_listeners(tmp_path: Path) -> None:
    """`--live` and `--admin` end with one line that says at what was looked."""
    pages = {
        **cluster_pages(good()),
        f"{PROXY}/readyz": READY,
        f"{PROXY}/metrics": "",
        "/readyz": READY,
        "/metrics": "",
    }
    async with answering(pages) as url, ClientSession():
        write_kubeconfig(tmp_path / "kubeconfig", {"server": url}, {"token": "x"})
        arguments = ("--live", "--kubeconfig", tmp_path / "kubeconfig", "--admin", url)
        done = await asyncio.to_thread(invoke, *arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("ok: nothing found in ")
    assert done.stdout.endswith(" objects and 1 listeners\n")
