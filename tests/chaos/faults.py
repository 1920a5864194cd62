"""The faults: each breaks one thing when it is entered and mends it when it is left."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.chaos.mesh import ChaosMesh
from tests.chaos.proxy import FAULTS
from tests.chaos.proxy import Fault as BackendFault

Fault = Callable[[ChaosMesh], AbstractAsyncContextManager[None]]

BUSY_PROCESSES, BUSY_SECONDS = 6, 6


def backend(name: str, fault: BackendFault) -> Fault:
    """Return a fault of a backend."""

    @asynccontextmanager
    async def broken(mesh: ChaosMesh) -> AsyncIterator[None]:
        await mesh.proxies[name].break_(fault)
        yield
        await mesh.proxies[name].heal()

    return broken


@asynccontextmanager
async def audit_disk_full(mesh: ChaosMesh) -> AsyncIterator[None]:
    """Every write to the audit log fails with ENOSPC."""
    mesh.audit.rename(mesh.audit.with_suffix(".old"))
    mesh.audit.symlink_to("/dev/full")
    yield
    mesh.audit.unlink()


def clock_jumps(seconds: int) -> Fault:
    """Return a fault that moves the service's clock."""

    @asynccontextmanager
    async def moved(mesh: ChaosMesh) -> AsyncIterator[None]:
        mesh.set_clock(seconds)
        yield
        mesh.set_clock(0)

    return moved


@asynccontextmanager
async def descriptors_exhausted(mesh: ChaosMesh) -> AsyncIterator[None]:
    """The service may open no further file or connection."""
    before = resource.prlimit(mesh.service.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(mesh.service.pid, resource.RLIMIT_NOFILE, (mesh.descriptors(), before[1]))
    yield
    resource.prlimit(mesh.service.pid, resource.RLIMIT_NOFILE, before)


@asynccontextmanager
async def processor_starved(_: ChaosMesh) -> AsyncIterator[None]:
    """Others take the processor; they end by themselves."""
    work = f"import time\nend = time.monotonic() + {BUSY_SECONDS}\nwhile time.monotonic() < end: pass"
    busy = [await asyncio.create_subprocess_exec(sys.executable, "-c", work) for _ in range(BUSY_PROCESSES)]
    yield
    for process in busy:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def envoy_restarted(mesh: ChaosMesh) -> AsyncIterator[None]:
    """Envoy is stopped and started again."""
    await mesh.stop_envoy()
    yield
    await mesh.start_envoy()


@asynccontextmanager
async def service_killed(mesh: ChaosMesh) -> AsyncIterator[None]:
    """The service is killed; its successor starts cold, on the same ports."""
    await mesh.stop_service(kill=True)
    yield
    await mesh.start_service()


@asynccontextmanager
async def policy_garbage(mesh: ChaosMesh) -> AsyncIterator[None]:
    """A policy file turns into garbage, as half a write leaves it."""
    file = mesh.policies / "pipelines-v2beta1.yaml"
    good = file.read_bytes()
    file.write_bytes(good[: len(good) // 2] + b"\x00\xff: [")
    yield
    file.write_bytes(good)


ALL: dict[str, Fault] = {
    **{
        f"{name} {fault}": backend(name, fault)
        for name in ("API server", "KFP API", "key server", "oauth2-proxy")
        for fault in FAULTS
    },
    "disk full for the audit log": audit_disk_full,
    "clock jumps a day ahead": clock_jumps(86400),
    "clock jumps a day back": clock_jumps(-86400),
    "file descriptors exhausted": descriptors_exhausted,
    "CPU starved": processor_starved,
    "Envoy restarted": envoy_restarted,
    "service killed": service_killed,
    "policy replaced by garbage": policy_garbage,
}
