"""The same training in PyTorch, written for this comparison: vectorised similarity, no loop over rows.

It is not the authors' code, which was not at hand when the table was taken.
"""

import faiss
import numpy as np
import torch
from torch import nn
from torchvision import transforms
from torchvision.transforms import functional

from tests.benchmarks import authors_losses


def _channels_first(pixels):
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


class Student(nn.Module):
    def __init__(self, embedding_dim=128, teacher_dim=512):
        super().__init__()
        blocks, channels = [], 3
        for width in (32, 64, 128, 256):
            blocks += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            blocks += [nn.MaxPool2d(2)]
            channels = width
        self.trunk = nn.Sequential(*blocks)
        self.f, self.g = nn.Linear(channels, embedding_dim), nn.Linear(channels, teacher_dim)

    def forward(self, images):
        features = self.trunk(images)
        pooled = features.mean(dim=(2, 3)) + features.amax(dim=(2, 3))
        return self.f(pooled), self.g(pooled)


class Views(torch.utils.data.Dataset):
    """Two random views of each image, as the recipe draws them; images are decoded already."""

    def __init__(self, images, size):
        self.images = [_channels_first(image) for image in images]
        self.crop = transforms.RandomResizedCrop(size, (0.5, 1.0), antialias=True)
        self.move = transforms.RandomAffine(12, (0.05, 0.05), interpolation=functional.InterpolationMode.BILINEAR)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return torch.stack([self.crop(self.move(self.images[index])) for _ in range(2)]), index


class Training:
    """Epochs of training, each with mining before it and an evaluation behind it, as ours."""

    def __init__(self, images, test_images, test_labels, *, size, batch=120, num_neighbors=2):
        self.size, self.batch, self.num_neighbors = size, batch, num_neighbors
        self.images, self.test_labels = Views(images, size), test_labels
        self.fixed, self.test = (self._fixed(each) for each in (images, test_images))
        self.student, self.teacher = Student(), Student()
        self.teacher.load_state_dict(self.student.state_dict())
        self.optimizer = torch.optim.AdamW(self.student.parameters(), 1e-3, weight_decay=1e-2)
        self.order = []
        self.loader = torch.utils.data.DataLoader(
            self.images, batch_sampler=self, num_workers=2, persistent_workers=True
        )

    def _fixed(self, images):
        resized = [functional.resize(_channels_first(each), self.size) for each in images]
        return torch.stack(resized).float() / 127.5 - 1

    def __len__(self):
        return len(self.order)

    def __iter__(self):
        return iter(self.order)

    @torch.no_grad()
    def _embed(self, images, output):
        self.student.eval()
        return torch.cat([self.student(part)[output] for part in images.split(256)]).numpy()

    def epoch(self):
        embeddings = self._embed(self.fixed, 1)
        nearest = faiss.knn(embeddings, embeddings, self.num_neighbors)[1]
        queries = np.random.permutation(len(nearest))[: len(nearest) // self.num_neighbors]
        rows = nearest[queries].ravel()
        self.order = rows[: len(rows) // self.batch * self.batch].reshape(-1, self.batch).tolist()
        # As many steps as images fill batches.
        self.order = (self.order * self.num_neighbors)[: len(nearest) // self.batch]
        self.student.train()
        for views, ids in self.loader:
            self._step(views.flatten(0, 1).float() / 127.5 - 1, ids.repeat_interleave(2))
        return self._recall()

    def _step(self, views, ids):
        with torch.no_grad():
            _, teacher = self.teacher(views)
            weights = authors_losses.similarity(teacher, ids, 2 * self.num_neighbors, 3.0, loop=False)
        loss = authors_losses.loss(*self.student(views), weights, 0.9)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for old, new in zip(self.teacher.state_dict().values(), self.student.state_dict().values(), strict=True):
                old.copy_(old.lerp(new, 0.1) if old.is_floating_point() else new)

    def _recall(self):
        found = self._embed(self.test, 0)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        nearest = faiss.knn(found, found, 20)[1][:, 1:]
        return (self.test_labels[nearest[:, 0]] == self.test_labels).mean()
