import json
import zlib

import numpy as np
import pytest

from tests.conftest import GOLDENS


@pytest.fixture(scope="session")
def checkpoint_shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    """Network -> name -> shape, of checkpoints of the authors' training code."""
    networks = json.loads((GOLDENS / "backbone_checkpoint_keys.json").read_text())
    return {network: {key: tuple(shape) for key, shape in keys} for network, keys in networks.items()}


@pytest.fixture(scope="session")
def checkpoint(checkpoint_shapes):
    """Makes the deterministic weights that the goldens were computed with."""

    def make(network: str) -> dict[str, np.ndarray]:
        return {key: _weight(key, shape) for key, shape in checkpoint_shapes[network].items()}

    return make


def _weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    z = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if key.endswith("running_var"):
        z = 1 + 0.2 * np.abs(z)
    elif key.endswith(("running_mean", ".bias")):
        z = 0.1 * z
    elif len(shape) == 1:
        z = 1 + 0.1 * z
    else:
        z = z * np.sqrt(2 / np.prod(shape[1:]))
    return z.astype(np.float32)
