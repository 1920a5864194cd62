"""`extauthz serve`: answer Envoy's checks until told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from extauthz.settings import Settings


def serve(
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The settings file.")],
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="The least severe messages to log.")
    ] = "info",
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the effective settings and where each comes from, and end.")
    ] = False,
) -> None:
    """Answer Envoy's checks until told to stop.

    Example: extauthz serve --config /etc/extauthz/settings.yaml

    Serves gRPC and HTTP until SIGTERM; then says that it is not ready, answers on for shutdown.drainSeconds, and ends
    once the checks under way are answered. Ctrl-C, and a second SIGTERM, leave out the wait.

    Policy files are reloaded when they change; a broken one is reported in the log and in
    /readyz of the admin listener, and the last good one keeps serving.

    Environment variables stand above the file: EXTAUTHZ_LISTENERS_GRPC_ADDRESS is listeners.grpc.address.
    """
    import logging
    import os

    import uvloop

    from extauthz import settings
    from extauthz.cli import effective

    loaded, document = settings.read(config, os.environ)
    if print_config:
        typer.echo(effective.render(loaded, document), nl=False)
        return
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every change beside the policy's files, too
    uvloop.run(_serve(loaded, log_level))


async def _serve(settings: Settings, log_level: str) -> None:
    import asyncio
    import logging
    import signal
    from functools import partial

    from extauthz.service import Service
    from extauthz.workers.supervisor import Supervisor

    logger = logging.getLogger("extauthz")
    ending, hurry = asyncio.Event(), asyncio.Event()

    def end(*, at_once: bool) -> None:
        if at_once or ending.is_set():
            hurry.set()
        ending.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, partial(end, at_once=True))
    loop.add_signal_handler(signal.SIGTERM, partial(end, at_once=False))
    service = Supervisor(settings, log_level=log_level) if settings.workers > 1 else Service(settings)
    try:
        await service.start()
        logger.info("serving: grpc %s, http %s, admin %s", service.grpc_port, service.http_port, service.admin_port)
        await ending.wait()
        logger.info("draining for up to %s s; another signal ends that", settings.shutdown.drain_seconds)
        await service.drain(hurry)
        logger.info("stopping")
    finally:
        await service.stop()
