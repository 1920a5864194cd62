"""A real kube-apiserver with its etcd, from the binaries that KUBEBUILDER_ASSETS names.

`setup-envtest use -p path` downloads them and prints the folder. RBAC is on, the static
tokens are those of `tests.apiserver.tokens`, and ServiceAccount tokens have an issuer.
"""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.apiserver import manifests, pki, tokens
from tests.apiserver.cluster import REVIEWS, Cluster
from tests.apiserver.store import Object

START_SECONDS = 60
_numbers = itertools.count()


def assets() -> Path | None:
    """Return the folder of the binaries, where the environment names one."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    return Path(folder) if folder else None


class RealCluster(Cluster):
    """A client of a real API server that takes back what it wrote."""

    async def settled(self) -> None:
        """Wait until reviews know of a RoleBinding and a ClusterRoleBinding that were written last."""
        name = f"settled-{os.getpid()}-{next(_numbers)}"
        grant = manifests.rule(["get"], ["settled"])
        marks: list[Object] = [
            manifests.role(name, grant),
            manifests.binding(name, name, manifests.user(name), namespace="default"),
            manifests.binding(name, name, manifests.group(name)),
        ]
        await self.apply(*marks)
        for spec in ({"user": name}, {"groups": [name]}):
            asked = {"verb": "get", "resource": "settled", "namespace": "default"}
            body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
            while True:
                _, answer = await self.call("POST", REVIEWS, {**body, "spec": {**spec, "resourceAttributes": asked}})
                if answer["status"]["allowed"]:
                    break

    async def close(self) -> None:
        for manifest in reversed(self.applied):
            await self.call("DELETE", self.path(manifest))
        await super().close()


@contextmanager
def running(binaries: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Run etcd and kube-apiserver; yield the URL and the certificate authority's file."""
    certificates = pki.create(folder / "pki")
    _write_tokens(folder / "tokens.csv")
    etcd, peer, secure = _free_ports(3)
    with ExitStack() as stack:
        stack.enter_context(_process(folder / "etcd.log", _etcd(binaries, folder, etcd, peer)))
        server = _apiserver(binaries, folder, certificates, etcd, secure)
        process = stack.enter_context(_process(folder / "kube-apiserver.log", server))
        url = f"https://127.0.0.1:{secure}"
        _await_ready(url, certificates.ca, process, folder / "kube-apiserver.log")
        yield url, certificates.ca


def _etcd(binaries: Path, folder: Path, port: int, peer: int) -> list[str]:
    client, other = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    return [
        str(binaries / "etcd"),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={other}",
        f"--initial-advertise-peer-urls={other}",
        f"--initial-cluster=default={other}",
        "--unsafe-no-fsync",
    ]


def _apiserver(binaries: Path, folder: Path, certificates: pki.Pki, etcd: int, port: int) -> list[str]:
    return [
        str(binaries / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={certificates.certificate}",
        f"--tls-private-key-file={certificates.key}",
        f"--cert-dir={folder}",
        "--authorization-mode=RBAC",
        f"--token-auth-file={folder / 'tokens.csv'}",
        f"--service-account-issuer={tokens.SERVER_AUDIENCE}",
        f"--service-account-signing-key-file={certificates.key}",
        f"--service-account-key-file={certificates.key}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--endpoint-reconciler-type=none",
        "--disable-admission-plugins=ServiceAccount",
    ]


@contextmanager
def _process(log: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.kill()


def _write_tokens(file: Path) -> None:
    lines = (
        f'{token},{account.user},{account.uid},"{",".join(account.groups)}"\n'
        for token, account in tokens.ACCOUNTS.items()
    )
    file.write_text("".join(lines))


def _await_ready(url: str, ca: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    context = ssl.create_default_context(cafile=ca)
    request = urllib.request.Request(f"{url}/readyz", headers={"Authorization": f"Bearer {tokens.ADMIN}"})
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, context=context, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(log.read_text(errors="replace")[-4000:]) from None
            time.sleep(0.2)  # another program's start gives no event to wait for


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [item.getsockname()[1] for item in sockets]
