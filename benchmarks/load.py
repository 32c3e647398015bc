"""An HTTP client that sends requests as fast as the server responds, and measures rate and latencies."""

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
CLOSE_SECONDS = 30
END_OF_HEADERS = b"\r\n\r\n"
LENGTH = b"content-length: "


def request(path: str, body: str, number: int) -> bytes:
    """Return a POST request like that of boto3, without signature."""
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
    """A connection that sends the next request after each response, until it is stopped."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        """Use an iterator of requests that all connections share."""
        self.requests = requests
        self.seconds: list[float] = []
        self.active = True
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self.transport = cast(asyncio.Transport, transport)
        self.send()

    def send(self) -> None:
        """Send the next request."""
        self.received = b""
        self.sent = time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        """Receive a response, or a part of it."""
        self.received += data
        head, _, body = self.received.partition(END_OF_HEADERS)
        if not body or len(body) < int(head.partition(LENGTH)[2].partition(b"\r")[0]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(self.received.decode()))
            return
        self.seconds.append(time.perf_counter() - self.sent)
        if self.active:
            self.send()
        else:
            self.transport.close()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail if the server closed the connection."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))


async def load(port: int, requests: list[bytes], seconds: float) -> dict[str, float]:
    """Return the number of responses, responses per second, and quantiles of the latencies."""
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
        connection.active = False
    await asyncio.wait_for(asyncio.gather(*(connection.done for connection in connections)), CLOSE_SECONDS)
    return {
        "answered": sum(len(connection.seconds) for connection in connections),
        "per_second": len(latencies) / took,
        "p50_ms": 1e3 * latencies[len(latencies) // 2],
        "p99_ms": 1e3 * latencies[len(latencies) * 99 // 100],
    }


def main() -> None:
    """Send the bodies on standard input, and print JSON: `python -m benchmarks.load PORT PATH SECONDS`."""
    port, path, seconds = sys.argv[1:]
    requests = [request(path, line.rstrip("\n"), number) for number, line in enumerate(sys.stdin)]
    print(json.dumps(uvloop.run(load(int(port), requests, float(seconds)))))


if __name__ == "__main__":
    main()
