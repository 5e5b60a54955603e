"""Which images meet in a batch: queries with their nearest neighbours.

Kim, Kim, Cho, Kwak: Self-Taught Metric Learning without Labels, CVPR 2022, arXiv 2205.01903, section 3.4.
Every choice is a pure function of the seed and the epoch, so a training that goes on later draws the same batches.
"""

import numpy as np

from stml_tf.errors import UserError


class NeighborBatches:
    """Batches of `batch_size` images: `batch_size / num_neighbors` queries, each with its neighbours.

    Args:
        num_images: Number of training images.
        batch_size: Images in a batch, a multiple of `num_neighbors`.
        num_neighbors: Images in a group, the query included.
        seed: Seed of the order.
        coverage: True draws queries from a shuffled order that runs on from epoch to epoch, so that every image is a
            query once in `num_neighbors` epochs. False draws each batch's queries anew, as the authors' code does.
        steps_per_epoch: Batches in an epoch; as many as the images fill by default.

    Raises:
        ValueError: If a batch is no multiple of the neighbours, or larger than the data.
    """

    def __init__(
        self,
        num_images: int,
        *,
        batch_size: int,
        num_neighbors: int,
        seed: int = 0,
        coverage: bool = True,
        steps_per_epoch: int | None = None,
    ) -> None:
        if num_neighbors < 1 or batch_size % num_neighbors:
            raise UserError(f"The batch size {batch_size} must be a multiple of num_neighbors={num_neighbors}.")
        if batch_size > num_images:
            raise UserError(
                f"A batch of {batch_size} images cannot be drawn from {num_images}: lower the batch size or add images."
            )
        self.num_images = num_images
        self.batch_size = batch_size
        self.num_neighbors = num_neighbors
        self.seed = seed
        self.coverage = coverage
        self.steps_per_epoch = steps_per_epoch or num_images // batch_size

    def queries(self, epoch: int) -> np.ndarray:
        """Choose the queries of an epoch, counted from 0: int64 `[steps_per_epoch, batch_size / num_neighbors]`."""
        per_step = self.batch_size // self.num_neighbors
        if not self.coverage:
            random = np.random.default_rng([self.seed, epoch])
            draws = [random.choice(self.num_images, per_step, replace=False) for _ in range(self.steps_per_epoch)]
            return np.stack(draws).astype(np.int64)
        per_epoch = self.steps_per_epoch * per_step
        positions = np.arange(epoch * per_epoch, (epoch + 1) * per_epoch)
        rounds, places = np.divmod(positions, self.num_images)
        orders = {turn: np.random.default_rng([self.seed, turn]).permutation(self.num_images) for turn in set(rounds)}
        queries = [orders[turn][place] for turn, place in zip(rounds, places, strict=True)]
        return np.asarray(queries, np.int64).reshape(self.steps_per_epoch, per_step)

    def batches(self, epoch: int, neighbors: np.ndarray | None = None) -> np.ndarray:
        """Lay out an epoch.

        Args:
            epoch: Counted from 0.
            neighbors: `[num_images, num_neighbors]` integers: each image's nearest neighbours, itself first. None lays
                out each image alone, in random order, where `num_neighbors` is 1.

        Returns:
            `[steps_per_epoch, batch_size]` int64 image indices; a query and its neighbours lie side by side.

        Raises:
            ValueError: If `neighbors` has another shape.
        """
        if neighbors is None:
            neighbors = np.arange(self.num_images)[:, None]
        if neighbors.shape != (self.num_images, self.num_neighbors):
            raise ValueError(
                f"Neighbours of shape {neighbors.shape} given, ({self.num_images}, {self.num_neighbors}) expected: "
                "one row an image, itself first."
            )
        return neighbors[self.queries(epoch)].reshape(self.steps_per_epoch, self.batch_size).astype(np.int64)
