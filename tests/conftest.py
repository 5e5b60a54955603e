from pathlib import Path

import numpy as np
import pytest

from tests.toy_network import other_model, photographs, toy_model  # noqa: F401 (fixtures of search, export and cli)

GOLDENS = Path(__file__).with_name("goldens")


@pytest.fixture
def golden():
    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDENS / f"{name}.npz") as arrays:
            return {key: arrays[key] for key in arrays.files}

    return load


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)
