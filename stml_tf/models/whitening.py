"""Whitening: a linear map under which features vary as much in one direction as in another.

What a pretrained network was taught dominates the distances between its features. Principal components, each divided
by a power of its deviation, take that away without labels: power 0 rotates and cuts off, 1 whitens in full.
Jegou, Chum: Negative Evidences and Co-occurrences in Image Retrieval, ECCV 2012, section 2.
"""

from typing import NamedTuple

import numpy as np
from keras import layers

from stml_tf.errors import UserError

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
LARGEST_DIM = 512


class Whitening(NamedTuple):
    """`features @ kernel + bias`, the mean being in the bias: float32 `[channels, dim]` and `[dim]`.

    Whitened training features have a mean of 0 and a mean squared length of 1.
    """

    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """`[rows, channels]` to `[rows, dim]` float32, not normalised."""
        return features @ self.kernel + self.bias

    def start(self, head: layers.Dense) -> None:
        """Give a linear head these weights.

        Raises:
            UserError: If the head has another shape.
        """
        if tuple(head.kernel.shape) != self.kernel.shape:
            raise UserError(
                f"A whitening from {self.kernel.shape[0]} to {self.kernel.shape[1]} dimensions does not fit the head "
                f"{head.name}, which is {list(head.kernel.shape)}: fit it for that width."
            )
        head.set_weights([self.kernel, self.bias])


class PrincipalComponents(NamedTuple):
    """What whitenings of all dimensions and powers share: `mean` `[channels]`, and by falling deviation
    `directions` `[channels, components]` and `deviations` `[components]`, float64."""

    mean: np.ndarray
    directions: np.ndarray
    deviations: np.ndarray

    def whitening(self, dim: int, power: float) -> Whitening:
        """The whitening to `dim` dimensions, with deviations to the power `power` divided out.

        Raises:
            UserError: If the features do not have that many directions, or `power` is outside [0, 1].
        """
        components = len(self.deviations)
        if not 1 <= dim <= components:
            raise UserError(
                f"A whitening to {dim} dimensions was asked of features with {components} directions; allowed: 1 to "
                f"{components}. There are as many as features, at most one fewer than images: lower "
                "model.embedding_dim and model.teacher_dim, or add images."
            )
        if not 0 <= power <= 1:
            raise UserError(f"power={power} given; allowed: from 0, which only rotates, to 1, which whitens in full.")
        kept = self.deviations[:dim]
        kernel = self.directions[:, :dim] / kept**power
        kernel /= np.sqrt(np.sum(kept ** (2 - 2 * power)))
        return Whitening(kernel.astype(np.float32), (-self.mean @ kernel).astype(np.float32))


def principal_components(features: np.ndarray) -> PrincipalComponents:
    """The directions in which features vary.

    Args:
        features: `[images, channels]`, finite, of the training images; labels play no part.

    Raises:
        UserError: If there are fewer than two images, or all features are the same.
    """
    features = np.asarray(features, np.float64)
    if len(features) < 2:
        raise UserError(f"A whitening needs the features of at least 2 images, {len(features)} given: add images.")
    mean = features.mean(axis=0)
    covariance = (features - mean).T @ (features - mean) / len(features)
    variances, directions = np.linalg.eigh(covariance)
    variances, directions = variances[::-1], directions[:, ::-1]
    if not variances[0] > 1e-13 * np.mean(np.square(features)):
        raise UserError("All images have the same features, so there is nothing to whiten: give different images.")
    # What rounding leaves of a variance of 0 would be blown up to 1.
    num_kept = min(len(features) - 1, int(np.count_nonzero(variances > 1e-10 * variances[0])))
    return PrincipalComponents(mean, directions[:, :num_kept], np.sqrt(variances[:num_kept]))


def fit_whitening(features: np.ndarray, *, dim: int, power: float = 1.0) -> Whitening:
    """Fit a whitening to the features of unlabelled images.

    Args:
        features: `[images, channels]`, finite, of the training images.
        dim: Dimensions to keep, at most the channels, and fewer than the images.
        power: Power of the deviations that is divided out, in [0, 1].

    Raises:
        UserError: If the features do not have that many directions, or `power` is outside [0, 1].
    """
    return principal_components(features).whitening(dim, power)


def embedding_of(whitening: Whitening, features: np.ndarray) -> np.ndarray:
    """Whitened features with length 1, `[rows, dim]` float32."""
    whitened = whitening(features)
    return whitened / np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), 1e-12)
