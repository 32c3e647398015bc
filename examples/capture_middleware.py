"""Capture the requests and responses of your own web application, in SageMaker's format.

python examples/capture_middleware.py
"""

import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from threading import Thread

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import runner
from runner.serving.data_capture import DataCapture

ROOT = Path(mkdtemp(prefix="shapwatch-"))
TRAFFIC = Path(runner.__file__).parent / "demo" / "traffic.jsonl"


# 1. Your application. FastAPI and all other ASGI frameworks work in the same way.
async def predict(request: Request) -> JSONResponse:
    """Return a score between 0 and 1 for the features of one record."""
    radius = (await request.json())["features"][0]
    return JSONResponse({"score": min(radius / 30, 1.0)})


app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])

# 2. Wrap it. Captured files appear below this folder, in a folder per hour.
captured = DataCapture(app, f"{ROOT}/capture/breast-cancer/AllTraffic", paths=["/predict"])

# 3. Serve it, and send ten requests.
listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(captured, log_level="warning"))
thread = Thread(target=server.run, kwargs={"sockets": [listener]})
thread.start()
url = f"http://127.0.0.1:{listener.getsockname()[1]}/predict"
for line in TRAFFIC.read_text().splitlines()[:10]:
    httpx.post(url, content=line, headers={"Content-Type": "application/json"}).raise_for_status()
server.should_exit = True
thread.join()

# 4. Look at the captured events of the last minute.
now = datetime.now(UTC)
window = f"stage.window={now - timedelta(minutes=1):%FT%TZ}/{now + timedelta(seconds=1):%FT%TZ}"
command = [sys.executable, "-m", "runner", "experiment=quickstart", f"paths.root={ROOT}", "stage=capture", window]
subprocess.run(command, check=True)
