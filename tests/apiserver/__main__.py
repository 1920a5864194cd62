"""Run the test API server as its own process: `python -m tests.apiserver --folder DIR [--port N] [--tls]`.

Prints one JSON line once it serves: its URL, and a kubeconfig for extauthz in the folder.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import uvloop

from tests.apiserver.double import Double
from tests.apiserver.manifests import delegate


async def serve(folder: Path, port: int, tls: bool) -> None:
    """Serve until the process is ended."""
    async with Double.running(folder, tls=tls, port=port) as server:
        for manifest in delegate():
            server.write(manifest)
        print(json.dumps({"url": server.url, "kubeconfig": str(server.kubeconfig())}), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", action="store_true")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    uvloop.run(serve(arguments.folder, arguments.port, arguments.tls))


if __name__ == "__main__":
    main()
