"""Serves an export with KServe's model server: TensorFlow Serving's requests, and the Open Inference Protocol V2.

pip install kserve tensorflow
python kserve_server.py --model_name quickstart --model_dir saved_models/quickstart/1
"""

import argparse
import asyncio
import base64

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
            reason = error.message.split("\n\t [[")[0].splitlines()[-1]  # The rest tells where in the graph.
            raise InvalidInput(f"an image cannot be decoded: {reason}") from error
        return get_predict_response(payload, result["embedding"].numpy(), self.name)


def read_images(payload: dict | InferRequest) -> list[bytes]:
    """The bytes of the images: {"instances": [{"b64": ...}, ...]}, or one V2 tensor of BYTES, in base64 too."""
    try:
        if isinstance(payload, dict):
            texts = [instance["b64"] for instance in payload["instances"]]
        else:
            texts = payload.inputs[0].as_numpy().flat
        return [base64.b64decode(text, validate=True) for text in texts]
    except (LookupError, TypeError, ValueError) as error:
        raise InvalidInput(f"the request holds no images in base64: {error!r}") from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    parser.add_argument("--model_dir", required=True, help="a version's folder, such as saved_models/quickstart/1")
    arguments = parser.parse_args()
    kserve.ModelServer().start([EmbeddingModel(arguments.model_name, arguments.model_dir)])
