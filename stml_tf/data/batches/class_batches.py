"""Which images meet in a batch where classes are known: as many of one class as of another.

Schroff, Kalenichenko, Philbin: FaceNet: A Unified Embedding for Face Recognition and Clustering, CVPR 2015,
arXiv 1503.03832, section 3.2; as in `NeighborBatches`, seed and epoch decide every choice.
"""

import numpy as np

from stml_tf.data.batches.neighbor_batches import NeighborBatches
from stml_tf.errors import UserError


class ClassBatches:
    """Batches of `classes_per_batch` classes with `images_per_class` images each.

    A class is as likely as any other, however many images it has. Of a class with fewer images than are wanted, all
    are drawn before one is drawn again.

    Args:
        labels: `[num_images]` integers, the classes.
        classes_per_batch: Different classes in a batch.
        images_per_class: Images of each; those of a class lie side by side.
        steps_per_epoch: Batches in an epoch.
        seed: Seed of the draws.

    Raises:
        ValueError: If there are fewer classes than a batch needs.
    """

    num_neighbors = 1  # nothing is searched for

    def __init__(
        self,
        labels: np.ndarray,
        *,
        classes_per_batch: int,
        images_per_class: int,
        steps_per_epoch: int,
        seed: int = 0,
    ) -> None:
        self.members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        if len(self.members) < classes_per_batch:
            raise UserError(
                f"Batches of {classes_per_batch} classes cannot be drawn from {len(self.members)} labelled classes: "
                "lower the classes in a batch, or label images of more."
            )
        self.classes_per_batch = classes_per_batch
        self.images_per_class = images_per_class
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed

    @property
    def batch_size(self) -> int:
        return self.classes_per_batch * self.images_per_class

    def batches(self, epoch: int, neighbors: np.ndarray | None = None) -> np.ndarray:
        """Lay out an epoch, counted from 0; `neighbors` are not used.

        Returns:
            `[steps_per_epoch, batch_size]` int64 image indices.
        """
        random = np.random.default_rng([self.seed, epoch])

        def batch() -> np.ndarray:
            classes = random.choice(len(self.members), self.classes_per_batch, replace=False)
            drawn = [np.resize(random.permutation(self.members[label]), self.images_per_class) for label in classes]
            return np.concatenate(drawn)

        return np.stack([batch() for _ in range(self.steps_per_epoch)]).astype(np.int64)


class SemiSupervisedBatches:
    """Batches of a labelled part in front, and an unlabelled part of queries with their neighbours.

    Args:
        labeled: Draws from the first `num_labeled` images.
        unlabeled: Draws from the others, which it counts from 0.
        num_labeled: How many images are labelled.

    Raises:
        ValueError: If the two do not have the same number of batches.
    """

    def __init__(self, labeled: ClassBatches, unlabeled: NeighborBatches, *, num_labeled: int) -> None:
        if labeled.steps_per_epoch != unlabeled.steps_per_epoch:
            raise ValueError(
                f"The labelled part has {labeled.steps_per_epoch} batches an epoch and the unlabelled part "
                f"{unlabeled.steps_per_epoch}: give both the same steps_per_epoch."
            )
        self.labeled = labeled
        self.unlabeled = unlabeled
        self.num_labeled = num_labeled
        self.num_neighbors = unlabeled.num_neighbors
        self.steps_per_epoch = labeled.steps_per_epoch

    @property
    def batch_size(self) -> int:
        return self.labeled.batch_size + self.unlabeled.batch_size

    def batches(self, epoch: int, neighbors: np.ndarray | None = None) -> np.ndarray:
        """Lay out an epoch.

        Args:
            epoch: Counted from 0.
            neighbors: `[num_unlabeled, num_neighbors]` integers, see `NeighborBatches.batches`; they count the
                unlabelled images from 0.

        Returns:
            `[steps_per_epoch, batch_size]` int64 indices of images, the labelled ones counted first.
        """
        unlabeled = self.unlabeled.batches(epoch, neighbors) + self.num_labeled
        return np.concatenate([self.labeled.batches(epoch), unlabeled], axis=1)
