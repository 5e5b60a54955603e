"""Similarity and losses as PyTorch computes them: with the paper's loop over the rows of a batch, and without."""

import torch
import torch.nn.functional as F


def similarity(teacher, image_ids, k, sigma, *, loop):
    teacher = F.normalize(teacher, dim=1)
    pairwise = torch.exp(-(torch.cdist(teacher, teacher) ** 2) / sigma)
    rows = len(pairwise)
    ranking = torch.where(image_ids[:, None] == image_ids, 1.0, pairwise)
    nearest = ranking.topk(k, dim=1).indices
    near = torch.zeros_like(pairwise).scatter_(1, nearest, 1.0)
    mutual = near * near.T
    if loop:
        overlap = torch.zeros_like(pairwise)
        for row in range(rows):
            own = mutual[row].nonzero()[:, 0]
            overlap[row, own] = mutual[own][:, own].sum(dim=1) / len(own)
        expanded = torch.stack([overlap[nearest[row, : k // 2]].mean(dim=0) for row in range(rows)])
    else:
        overlap = mutual * (mutual @ mutual.T) / mutual.sum(dim=1, keepdim=True).clamp(min=1)
        expanded = torch.zeros_like(pairwise).scatter_(1, nearest[:, : k // 2], 1.0) @ overlap / (k // 2)
    return (pairwise + (expanded + expanded.T) / 2) / 2


def loss(f, g, weights, delta):
    f, g = _relative(f), _relative(g)
    distillation = F.kl_div(F.log_softmax(-f, 1), F.softmax(-g.detach(), 1), reduction="batchmean")
    return (_contrastive(f, weights, delta) + _contrastive(g, weights, delta)) / 2 + distillation


def _relative(embeddings):
    apart = torch.cdist(embeddings, embeddings)
    return apart / apart.mean(dim=1, keepdim=True)


def _contrastive(relative, weights, delta):
    losses = weights * relative**2 + (1 - weights) * F.relu(delta - relative) ** 2
    losses = losses * (1 - torch.eye(len(relative)))
    return losses.sum() / (len(relative) * (len(relative) - 1))
