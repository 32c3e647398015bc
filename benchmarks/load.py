"""A client that asks an HTTP server as fast as it answers: requests a second, and how long each took."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from typing import cast

import uvloop

CONNECTIONS = 64
WARM_UP_SECONDS = 1.0
PATIENCE_SECONDS = 30
END_OF_HEADERS = b"\r\n\r\n"
LENGTH = b"content-length: "


def request(path: str, body: str, number: int) -> bytes:
    """Return a POST as boto3 sends it, but for the signature."""
    head = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/jsonlines",
        "Accept: application/jsonlines",
        f"X-Amzn-SageMaker-Inference-Id: {number}",
        f"Content-Length: {len(body.encode())}",
    ]
    return "\r\n".join([*head, "", body]).encode()


class Connection(asyncio.Protocol):
    """Asks again as soon as it is answered, until it is told to stop."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        """Take turns with other connections at the requests."""
        self.requests = requests
        self.seconds: list[float] = []
        self.going = True
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self.transport = cast(asyncio.Transport, transport)
        self.ask()

    def ask(self) -> None:
        """Send a request."""
        self.received = b""
        self.asked = time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        """Take an answer, or a part of it."""
        self.received += data
        head, _, body = self.received.partition(END_OF_HEADERS)
        if not body or len(body) < int(head.partition(LENGTH)[2].partition(b"\r")[0]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(self.received.decode()))
            return
        self.seconds.append(time.perf_counter() - self.asked)
        if self.going:
            self.ask()
        else:
            self.transport.close()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up when it was not us who closed it."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))


async def load(port: int, requests: list[bytes], seconds: float) -> dict[str, float]:
    """Return how many requests were answered in all, how many a second, and the quantiles of their latencies."""
    turns = cycle(requests)
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: Connection(turns), "127.0.0.1", port))[1] for _ in range(CONNECTIONS)
    ]
    await asyncio.sleep(WARM_UP_SECONDS)
    warm = [len(connection.seconds) for connection in connections]
    start = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - start
    latencies = sorted(
        second for connection, first in zip(connections, warm, strict=True) for second in connection.seconds[first:]
    )
    for connection in connections:
        connection.going = False
    await asyncio.wait_for(asyncio.gather(*(connection.done for connection in connections)), PATIENCE_SECONDS)
    return {
        "answered": sum(len(connection.seconds) for connection in connections),
        "per_second": len(latencies) / took,
        "p50_ms": 1e3 * latencies[len(latencies) // 2],
        "p99_ms": 1e3 * latencies[len(latencies) * 99 // 100],
    }


def main() -> None:
    """Print what a load gives, as JSON; bodies come in a line each: `python -m benchmarks.load PORT PATH SECONDS`."""
    port, path, seconds = sys.argv[1:]
    requests = [request(path, line.rstrip("\n"), number) for number, line in enumerate(sys.stdin)]
    print(json.dumps(uvloop.run(load(int(port), requests, float(seconds)))))


if __name__ == "__main__":
    main()
