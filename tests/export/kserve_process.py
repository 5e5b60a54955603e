"""KServe's model server in an environment and a process of its own, and the least client that talks to it."""

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

WRAPPER = Path(__file__).parents[2] / "saved_models" / "kserve_server.py"
REQUIREMENT = "kserve==0.21.*"
NAME = "toy"
_SECONDS_TO_START = 600


def install_kserve(folder):
    """A Python with KServe beside this environment's TensorFlow; installs what `folder` does not hold yet."""
    python, installed = folder / "bin" / "python", folder / "installed"
    with FileLock(folder.with_suffix(".lock")):
        if installed.exists():
            return python
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        # TensorFlow is five times as large as the server, so this environment's is used, and nothing is changed in it.
        (packages / "tensorflow.pth").write_text(str(Path(find_spec("tensorflow").origin).parents[1]))
        pip = subprocess.run([python, "-m", "pip", "install", REQUIREMENT], capture_output=True, text=True)
        if pip.returncode:
            pytest.skip(f"KServe cannot be installed here: {pip.stderr.strip().splitlines()[-1]}")
        installed.touch()
    return python


@dataclass(frozen=True)
class Server:
    port: int
    pid: int

    def connect(self):
        return closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=300))

    def post(self, path, body):
        """Returns the status and the decoded answer."""
        with self.connect() as connection:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def predict(self, images):
        """As clients of TensorFlow Serving ask."""
        instances = [{"b64": in_base64(image)} for image in images]
        return self.post(f"/v1/models/{NAME}:predict", {"instances": instances})

    def infer(self, images):
        """As clients of the Open Inference Protocol V2 ask."""
        data = [in_base64(image) for image in images]
        tensor = {"name": "image_bytes", "shape": [len(data)], "datatype": "BYTES", "data": data}
        return self.post(f"/v2/models/{NAME}/infer", {"inputs": [tensor]})

    def is_ready(self):
        try:
            with self.connect() as connection:
                connection.request("GET", f"/v2/models/{NAME}/ready")
                return connection.getresponse().status == 200
        except OSError:
            return False

    def resident_bytes(self):
        kibibytes = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.pid)], capture_output=True, text=True, check=True
        )
        return 1024 * int(kibibytes.stdout)


def in_base64(content):
    return base64.b64encode(content).decode()


@contextmanager
def kserve_server(python, saved_model, log):
    """Serves a version's folder on a free port until the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--model_name", NAME, "--model_dir", saved_model, "--http_port", str(port)]
    with log.open("w") as file:
        process = subprocess.Popen(
            [python, WRAPPER, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
    try:
        server, deadline = Server(port, process.pid), time.monotonic() + _SECONDS_TO_START
        while not server.is_ready():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
