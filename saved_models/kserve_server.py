"""Serves an export with KServe's model server: TensorFlow Serving's requests, and the Open Inference Protocol V2.

pip install kserve tensorflow
python kserve_server.py --model_name quickstart --model_dir saved_models/quickstart/1

It listens on this machine alone, 127.0.0.1:8080; `--host 0.0.0.0` opens it to others.
"""

import argparse
import asyncio
import base64
import re

import kserve
import tensorflow as tf
from kserve import InferRequest, InferResponse
from kserve.errors import InvalidInput
from kserve.utils.utils import get_predict_response


class EmbeddingModel(kserve.Model):
    def __init__(self, name: str, saved_model: str) -> None:
        super().__init__(name)
        self.network = tf.saved_model.load(saved_model)
        self.ready = True

    async def predict(self, payload: dict | InferRequest, headers: dict | None = None) -> dict | InferResponse:
        images = tf.constant(read_images(payload), tf.string)
        try:
            # In a thread, so that the server goes on answering.
            result = await asyncio.to_thread(self.network.signatures["serving_default"], image_bytes=images)
        except tf.errors.InvalidArgumentError as error:
            raise InvalidInput(f"an image cannot be decoded: {reason_of(error)}") from error
        return get_predict_response(payload, result["embedding"].numpy(), self.name)


def reason_of(error: tf.errors.InvalidArgumentError) -> str:
    """Return what TensorFlow says about the image, without the location in the graph."""
    said = error.message.split("\n\t [[")[0].splitlines()[-1]
    refused = re.fullmatch(r"assertion failed: \[(.*)\]", said)
    return refused[1] if refused else f"it is damaged or cut off ({said})"


def read_images(payload: dict | InferRequest) -> list[bytes]:
    """Return the bytes of the images in {"instances": [{"b64": ...}, ...]} or in a V2 tensor of BYTES in base64."""
    try:
        if isinstance(payload, InferRequest):
            texts = payload.inputs[0].as_numpy().flat
        else:
            texts = [instance["b64"] for instance in payload["instances"]]
        return [base64.b64decode(text, validate=True) for text in texts]
    except (LookupError, TypeError, ValueError) as error:
        raise InvalidInput(f"the request holds no images in base64: {error!r}") from error


class Server(kserve.ModelServer):
    """KServe's server, on a host of one's choice: by itself it listens on all addresses."""

    def __init__(self, host: str, **options: object) -> None:
        super().__init__(**options)
        self.host = host

    async def _serve(self) -> None:
        self._rest_server.config.host = self.host
        await super()._serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser], conflict_handler="resolve")
    parser.add_argument("--model_dir", required=True, help="a version's folder, such as saved_models/quickstart/1")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all of this machine's")
    grpc = "also listen for gRPC, on all addresses whatever --host says"
    parser.add_argument("--enable_grpc", default=False, type=lambda value: value.lower() == "true", help=grpc)
    arguments = parser.parse_args()
    if arguments.workers != 1:
        parser.error("--workers: TensorFlow shares its threads among requests, so one process serves them all.")
    server = Server(arguments.host, enable_grpc=arguments.enable_grpc)
    server.start([EmbeddingModel(arguments.model_name, arguments.model_dir)])
