"""Requests and streams over real sockets, and the credentials they go out with."""

from __future__ import annotations

import asyncio
import shutil
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest

from extauthz.access.kubernetes.connection import (
    Connection,
    Disconnected,
    Rejected,
    TimedOut,
    Untrusted,
)
from extauthz.access.kubernetes.credentials import Credentials, find
from extauthz.errors import ConfigurationError, Unavailable
from tests.apiserver import Double, Gate, answer, hang, hold, pki, reset, tokens
from tests.apiserver.cluster import write_kubeconfig
from tests.plugins import hanging

ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
WATCH = {"watch": "true", "resourceVersion": "1"}


def cluster(double: Double) -> dict[str, Any]:
    """The cluster section of a kubeconfig for the double."""
    return {"server": double.url, "certificate-authority": str(double.ca)}


async def status(connection: Connection) -> int:
    """Return the status of a plain request."""
    return (await connection.request("GET", "/version", timeout=5)).status


async def opened(kubeconfig: Path) -> int:
    """Open a connection, send one request and return its status."""
    async with await Connection.open(kubeconfig=kubeconfig) as connection:
        return await status(connection)


async def test_answers_come_as_bytes(connection: Connection) -> None:
    """A request gives status and raw body."""
    got = await connection.request("GET", "/version", timeout=5)
    assert (got.status, orjson.loads(got.body)["major"]) == (200, "1")


async def test_redirects_are_not_followed(double: Double, connection: Connection) -> None:
    """A redirect is an answer like any other, so the token goes nowhere else."""
    with double.fault("/version", answer(302, headers={"Location": f"{double.url}/api"})):
        assert await status(connection) == 302
    assert double.calls.total() == 1


async def test_each_failure_has_its_type(double: Double, connection: Connection) -> None:
    """Broken connection, silence and a body above the bound can be told apart."""
    with double.fault("/version", reset()), pytest.raises(Disconnected):
        await status(connection)
    with double.fault("/version", hang()), pytest.raises(TimedOut):
        await connection.request("GET", "/version", timeout=0.05)
    with pytest.raises(Unavailable, match="exceeds 10 bytes"):
        await connection.request("GET", "/version", timeout=5, max_bytes=10)


@pytest.mark.parametrize("path", ["/version", ROLES])
async def test_broken_encoding_is_no_answer(double: Double, connection: Connection, path: str) -> None:
    """A body that is not in the encoding it claims is neither an answer nor an unforeseen error."""
    with double.fault(path, answer(200, b"no gzip\n", {"Content-Encoding": "gzip"})):
        with pytest.raises(Unavailable):
            await connection.request("GET", path, timeout=5)
        async with connection.stream(path, idle_timeout=5) as lines:
            with pytest.raises(Unavailable):
                await anext(lines)


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3), ("0", 0), ("-1", 0), ("1.5", 0), ("²", 0), ("9" * 9, 0), ("soon", 0)]
)
async def test_retry_after(double: Double, connection: Connection, header: str, seconds: int) -> None:
    """Only whole seconds count as Retry-After."""
    with double.fault("/version", answer(429, b"", {"Retry-After": header})):
        answered = await connection.request("GET", "/version", timeout=5)
        assert (answered.status, answered.body, answered.retry_after) == (429, b"", seconds)


async def test_stream_ends_with_the_server(connection: Connection) -> None:
    """When the server ends a watch in good order, the lines end."""
    async with connection.stream(ROLES, params={**WATCH, "timeoutSeconds": "0.05"}, idle_timeout=5) as lines:
        types = [orjson.loads(line)["type"] async for line in lines]
    assert set(types) == {"ADDED"}


async def test_stream_that_is_refused(double: Double, connection: Connection) -> None:
    """Any other status than 200 is Rejected, with the answer."""
    with double.fault(ROLES, answer(403)), pytest.raises(Rejected) as refused:
        async with connection.stream(ROLES, params=WATCH, idle_timeout=5):
            pass
    assert refused.value.answer.status == 403
    assert str(refused.value) == "apiserver_rejected: the API server answered HTTP 403"


async def test_silent_stream_times_out(connection: Connection) -> None:
    """A stream that stays silent beyond its bound is given up."""
    params = {"watch": "true", "resourceVersion": "999999"}
    async with connection.stream(ROLES, params=params, idle_timeout=0.2) as lines:
        with pytest.raises(TimedOut):
            await anext(lines)


async def test_endless_line_is_cut_off(double: Double, connection: Connection) -> None:
    """A line above the bound ends the stream instead of filling the memory."""
    with double.fault(ROLES, answer(200, b"x" * 10_000_000)):
        async with connection.stream(ROLES, params=WATCH, idle_timeout=5) as lines:
            with pytest.raises(Unavailable, match="bad_answer"):
                await anext(lines)


async def test_half_a_line_is_no_line(double: Double, connection: Connection) -> None:
    """What follows the last newline is never given out."""
    with double.fault(ROLES, answer(200, b"{}\n{")):
        async with connection.stream(ROLES, params=WATCH, idle_timeout=5) as lines:
            assert [line async for line in lines] == [b"{}\n"]


async def test_callers_own_errors_pass_through(connection: Connection) -> None:
    """An error of the caller inside a stream is not taken for the server's."""
    with pytest.raises(TimeoutError):
        async with connection.stream(ROLES, params=WATCH, idle_timeout=5):
            raise TimeoutError


async def test_full_pool_does_not_hold_a_stream_for_ever(double: Double) -> None:
    """A stream that finds no free connection is given up after the same time as a silent one."""
    credentials = Credentials(find(double.kubeconfig(), None))
    await credentials.refresh()
    async with (
        Connection(credentials, max_connections=1) as connection,
        connection.stream(ROLES, params=WATCH, idle_timeout=5),
    ):
        with pytest.raises(TimedOut):
            async with connection.stream(ROLES, params=WATCH, idle_timeout=0.05):
                pass


async def test_leaving_a_stream_closes_it(double: Double, connection: Connection) -> None:
    """A stream that is left early frees its connection."""
    gate = Gate()
    with double.fault(ROLES, hold(gate)):
        opening = asyncio.ensure_future(connection.stream(ROLES, params=WATCH, idle_timeout=5).__aenter__())
        await gate.reached()
        opening.cancel()
        await gate.abandoned.wait()


async def test_closing_ends_a_refresh(double: Double, tmp_path: Path) -> None:
    """Closing the connection does not leave a refresh behind."""
    clock = iter(range(0, 10_000, 1000))
    plugin = _plugin(tmp_path, f"touch {tmp_path}/started; [ -e {tmp_path}/block ] && sleep 60")
    load = find(write_kubeconfig(tmp_path / "config", cluster(double), plugin), None)
    credentials = Credentials(load, clock=lambda: next(clock))
    await credentials.refresh()
    (tmp_path / "block").touch()
    credentials.rejected()
    credentials.keep_fresh()
    await Connection(credentials).close()


async def test_context_chooses_the_cluster(double: Double, tmp_path: Path) -> None:
    """A named context counts, and one that is not there is a configuration error."""
    assert await opened(double.kubeconfig()) == 200
    with pytest.raises(ConfigurationError, match="nowhere"):
        await Connection.open(kubeconfig=double.kubeconfig(), context="nowhere")


async def test_token_file_is_read_again(double: Double, tmp_path: Path) -> None:
    """A token file's new content is used after a 401, without a request waiting for it."""
    token = tmp_path / "token"
    token.write_text("old\n")
    clock = [0.0]
    load = find(write_kubeconfig(tmp_path / "config", cluster(double), {"tokenFile": str(token)}), None)
    credentials = Credentials(load, clock=lambda: clock[0])
    await credentials.refresh()
    async with Connection(credentials) as connection:
        assert await status(connection) == 401
        token.write_text(f"{tokens.EXTAUTHZ}\n")
        clock[0] = 5
        assert await status(connection) == 401
        assert await status(connection) == 200


async def test_pod_credentials(double: Double, tmp_path: Path) -> None:
    """In a pod, address, token and authority come from the ServiceAccount; all are read again each minute."""
    assert double.ca
    shutil.copy(double.ca, tmp_path / "ca.crt")
    (tmp_path / "token").write_text(tokens.EXTAUTHZ)
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": double.url.rpartition(":")[2]}
    clock = [0.0]
    credentials = Credentials(find(None, None, environ=environ, service_account=tmp_path), clock=lambda: clock[0])
    await credentials.refresh()
    async with Connection(credentials) as connection:
        assert await status(connection) == 200
        shutil.copy(pki.create(tmp_path / "other").ca, tmp_path / "ca.crt")
        (tmp_path / "token").write_text("rotated")
        before = credentials.context
        clock[0] = 59
        credentials.keep_fresh()
        clock[0] = 60
        credentials.keep_fresh()
        credentials.keep_fresh()
        await credentials.refreshed()
        assert credentials.authorization == "Bearer rotated"
        assert credentials.context is not before
        with pytest.raises(Untrusted):
            await status(connection)


async def test_failed_refresh_keeps_the_last(double: Double, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While credentials cannot be read, the last good ones serve, and the log says so."""
    kubeconfig = double.kubeconfig()
    clock = [0.0]
    credentials = Credentials(find(kubeconfig, None), clock=lambda: clock[0])
    await credentials.refresh()
    async with Connection(credentials) as connection:
        kubeconfig.unlink()
        for clock[0] in (60.0, 62.0, 65.0):
            assert await status(connection) == 200
            await credentials.refreshed()
    assert len([record for record in caplog.records if record.name.startswith("extauthz")]) == 2


@pytest.mark.parametrize(
    ("change", "user", "message"),
    [
        ({"insecure-skip-tls-verify": True}, {"token": "t"}, "insecure-skip-tls-verify"),
        ({"server": "http://10.0.0.1:8080"}, {"token": "t"}, "neither https nor on this machine"),
        ({"server": "http://example.com"}, {"token": "t"}, "neither https nor on this machine"),
        ({"server": "ftp://127.0.0.1"}, {"token": "t"}, "neither https nor on this machine"),
        ({"certificate-authority": "/nowhere/ca.crt"}, {"token": "t"}, "File does not exists"),
        ({}, {"auth-provider": {"name": "oidc", "config": {}}}, "auth-provider 'oidc' is not supported"),
        ({}, {"tokenFile": "/nowhere/token"}, "/nowhere/token"),
        ({}, {"exec": {"command": "false", "apiVersion": "client.authentication.k8s.io/v1"}}, "gave no credentials"),
        ({}, "text", "cannot be used"),
    ],
)
async def test_unusable_kubeconfig(
    double: Double, tmp_path: Path, change: dict[str, Any], user: Any, message: str
) -> None:
    """A kubeconfig that is unsafe or cannot be used is a configuration error that says why."""
    file = write_kubeconfig(tmp_path / "config", {**cluster(double), **change}, user)
    with pytest.raises(ConfigurationError, match=message) as raised:
        await Connection.open(kubeconfig=file)
    (problem,) = raised.value.problems
    assert problem.file in (file, None)
    assert problem.hint.partition(" ")[0] in ("", "name", "run", "use")


async def test_authority_that_is_no_certificate(double: Double, tmp_path: Path) -> None:
    """A certificate authority's file with something else inside is a configuration error."""
    (tmp_path / "ca.crt").write_text("nonsense")
    with pytest.raises(ConfigurationError, match="credentials cannot be read"):
        await Connection.open(kubeconfig=double.kubeconfig(**{"certificate-authority": str(tmp_path / "ca.crt")}))


async def test_no_kubeconfig_at_all(tmp_path: Path) -> None:
    """Outside a pod and without a kubeconfig there is nothing to connect to."""
    with pytest.raises(ConfigurationError):
        await Credentials(find(None, None, environ={"KUBECONFIG": str(tmp_path / "none")})).refresh()


async def test_pod_without_a_token(tmp_path: Path) -> None:
    """A pod without a mounted token says so, and so does one with an empty token or without the server's port."""
    environ = {"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "1"}
    missing = rf"^{tmp_path / 'token'}: in-cluster configuration: No such file .* ServiceAccount token mounted"
    with pytest.raises(ConfigurationError, match=missing):
        await Credentials(find(None, None, environ=environ, service_account=tmp_path)).refresh()
    (tmp_path / "token").write_text("\n")
    with pytest.raises(
        ConfigurationError, match=f"^{tmp_path / 'token'}: in-cluster configuration: the file is empty$"
    ):
        await Credentials(find(None, None, environ=environ, service_account=tmp_path)).refresh()
    del environ["KUBERNETES_SERVICE_PORT"]
    with pytest.raises(ConfigurationError, match=r"^in-cluster configuration: KUBERNETES_SERVICE_PORT is not set$"):
        await Credentials(find(None, None, environ=environ, service_account=tmp_path)).refresh()


async def test_pod_with_ipv6(tmp_path: Path) -> None:
    """The API server's address may be one of IPv6."""
    (tmp_path / "token").write_text("x")
    shutil.copy(pki.create(tmp_path / "other").ca, tmp_path / "ca.crt")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    credentials = Credentials(find(None, None, environ=environ, service_account=tmp_path))
    await credentials.refresh()
    assert credentials.url == "https://[fd00::1]"


async def test_plain_http_to_this_machine(tmp_path: Path) -> None:
    """`kubectl proxy` on the same machine may be used without TLS."""
    async with Double.running(tmp_path, tls=False) as double:
        server = {"server": double.url.replace("127.0.0.1", "localhost")}
        assert await opened(write_kubeconfig(tmp_path / "c", server, {"token": tokens.EXTAUTHZ})) == 200
        assert await opened(write_kubeconfig(tmp_path / "d", server, {"username": "u", "password": "p"})) == 401
        anonymous = write_kubeconfig(tmp_path / "e", server, {})
        assert await opened(anonymous) == 401


async def test_the_proxy_of_a_kubeconfig_is_asked(tmp_path: Path) -> None:
    """With `proxy-url` the API server is reached through that proxy alone."""
    async with Double.running(tmp_path, tls=False) as proxy:
        server = {"server": "http://127.0.0.1:1", "proxy-url": proxy.url}
        assert await opened(write_kubeconfig(tmp_path / "c", server, {"token": tokens.EXTAUTHZ})) == 200


async def test_client_certificate(double: Double, tmp_path: Path) -> None:
    """A client certificate is offered to the server; one that cannot be loaded is a configuration error."""
    assert double.certificates
    pair = {"client-certificate": str(double.certificates.certificate), "client-key": str(double.certificates.key)}
    kubeconfig = write_kubeconfig(tmp_path / "config", cluster(double), {**pair, "token": tokens.EXTAUTHZ})
    assert await opened(kubeconfig) == 200
    write_kubeconfig(kubeconfig, cluster(double), {**pair, "client-key": str(double.certificates.certificate)})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await Connection.open(kubeconfig=kubeconfig)


async def test_context_means_a_kubeconfig(double: Double) -> None:
    """With a context named, a kubeconfig is read even in a pod."""
    environ = {"KUBERNETES_SERVICE_HOST": "192.0.2.1", "KUBECONFIG": str(double.kubeconfig())}
    credentials = Credentials(find(None, "test", environ=environ))
    await credentials.refresh()
    assert credentials.url == double.url


async def test_exec_plugin_without_expiry_runs_once(double: Double, tmp_path: Path) -> None:
    """What a plugin answers without an expiry is kept until the API server answers 401."""
    user = _plugin(tmp_path, f"echo run >>{tmp_path}/runs")
    load = find(write_kubeconfig(tmp_path / "config", cluster(double), user), None)
    clock = [0.0]
    credentials = Credentials(load, clock=lambda: clock[0])
    await credentials.refresh()
    await credentials.refresh()
    async with Connection(credentials) as connection:
        assert await status(connection) == 200
        assert (tmp_path / "runs").read_text() == "run\n"
        double.accounts.pop(tokens.EXTAUTHZ)
        assert await status(connection) == 401
        clock[0] = 5
        await status(connection)
        await credentials.refreshed()
    assert (tmp_path / "runs").read_text() == "run\nrun\n"


@pytest.mark.parametrize(("expiry", "runs"), [("2020-01-01T00:00:00Z", 2), ("2999-01-01T00:00:00Z", 1)])
async def test_exec_plugin_runs_again_on_expiry(double: Double, tmp_path: Path, expiry: str, runs: int) -> None:
    """What a plugin answers is kept until shortly before it expires."""
    user = _plugin(tmp_path, f"echo run >>{tmp_path}/runs", expirationTimestamp=expiry)
    credentials = Credentials(find(write_kubeconfig(tmp_path / "config", cluster(double), user), None))
    await credentials.refresh()
    await credentials.refresh()
    assert (tmp_path / "runs").read_text() == "run\n" * runs


async def test_exec_plugin_that_hangs(double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that does not end is given up."""
    monkeypatch.setattr("extauthz.access.kubernetes.credentials.LOAD_SECONDS", 0.2)
    async with hanging(tmp_path) as command:
        user = {"exec": {"command": command, "apiVersion": "client.authentication.k8s.io/v1"}}
        with pytest.raises(ConfigurationError, match="not loaded within"):
            await Connection.open(kubeconfig=write_kubeconfig(tmp_path / "config", cluster(double), user))


def _plugin(folder: Path, line: str, **more: str) -> dict[str, Any]:
    """Write an exec plugin that runs a line of shell and gives extauthz's token."""
    version = "client.authentication.k8s.io/v1"
    credential = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": tokens.EXTAUTHZ, **more}}
    script = folder / "plugin"
    script.write_text(f"#!/bin/sh\n{line}\nprintf '%s' '{orjson.dumps(credential).decode()}'\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"command": str(script), "apiVersion": version}}
