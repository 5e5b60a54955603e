from pathlib import Path

import numpy as np
import pytest

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
