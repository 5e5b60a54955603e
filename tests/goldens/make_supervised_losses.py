"""Computes the goldens of the supervised losses with two other libraries, each in an environment of its own.

`python make_supervised_losses.py pytorch_metric_learning` needs pytorch-metric-learning 2.9.0 with torch 2.13.0;
`python make_supervised_losses.py tensorflow_addons` needs stml_tf with its extra `addons` (tensorflow-addons 0.23.0).
Both write `supervised_losses_LIBRARY.npz` beside this file: the inputs, and for each loss and batch its value and its
gradient. Where a library weighs its parts otherwise, it is set up or combined as the comments say.
"""

import sys
from pathlib import Path

import numpy as np

# Every class has two rows or more: on rows without a positive the libraries differ among themselves.
BATCHES = {
    "even": np.repeat([4, 1, 7, 2], 4),
    "uneven": np.repeat([0, 3, 5, 9], [5, 3, 2, 4]),
    "pairs": np.repeat([8, 6, 3, 1, 0, 5], 2),
}
NUM_CLASSES, DIM = 10, 6


def inputs():
    random = np.random.default_rng(7)
    arrays = {"proxies": random.normal(size=(NUM_CLASSES, DIM)).astype(np.float32)}
    centres = random.normal(size=(NUM_CLASSES, DIM))
    for batch, labels in BATCHES.items():
        arrays[f"{batch}_labels"] = labels
        # Near enough to their classes that mining has something to choose.
        rows = centres[labels] + 0.8 * random.normal(size=(len(labels), DIM))
        arrays[f"{batch}_embeddings"] = rows.astype(np.float32)
    return arrays


def pytorch_metric_learning(arrays):
    import torch
    from pytorch_metric_learning import __version__, distances, losses, miners, reducers

    squared = distances.LpDistance(normalize_embeddings=True, p=2, power=2)
    plain = distances.LpDistance(normalize_embeddings=False, p=2, power=1)
    dot = distances.DotProductSimilarity(normalize_embeddings=False)
    proxies = torch.from_numpy(arrays["proxies"])
    anchor = losses.ProxyAnchorLoss(NUM_CLASSES, DIM, margin=0.1, alpha=32)
    anchor.proxies.data = proxies
    softmax = losses.NormalizedSoftmaxLoss(NUM_CLASSES, DIM, temperature=0.05)
    softmax.W.data = proxies.T
    triplets = losses.TripletMarginLoss(margin=0.2, distance=squared, reducer=reducers.AvgNonZeroReducer())
    multi_similarity = losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)
    miner = miners.MultiSimilarityMiner(epsilon=0.1)

    def n_pairs(x, y):
        # Left alone it draws the anchor of each class at random; given pairs, it takes those. No penalty on norms.
        anchors = torch.arange(0, len(y), 2)
        pairs = (anchors, anchors + 1, anchors, (anchors + 2) % len(y))
        return losses.NPairsLoss(distance=dot)(x, y, pairs)

    functions = {
        "triplet_all": lambda x, y: triplets(x, y),
        "multi_similarity": lambda x, y: multi_similarity(x, y, miner(x, y)),
        "multi_similarity_unmined": lambda x, y: multi_similarity(x, y),
        "lifted_structure": lambda x, y: losses.LiftedStructureLoss(neg_margin=1, pos_margin=0, distance=plain)(x, y),
        "n_pairs": n_pairs,
        "supervised_contrastive": lambda x, y: losses.SupConLoss(temperature=0.1)(x, y),
        "proxy_anchor": lambda x, y: anchor(x, y),
        "normalized_softmax": lambda x, y: softmax(x, y),
    }
    results = {"version": np.array(f"pytorch-metric-learning {__version__}, torch {torch.__version__}")}
    for name, function in functions.items():
        for batch in BATCHES:
            if name == "n_pairs" and batch != "pairs":
                continue
            embeddings = torch.tensor(arrays[f"{batch}_embeddings"], requires_grad=True)
            labels = torch.from_numpy(arrays[f"{batch}_labels"])
            value = function(embeddings, labels)
            value.backward()
            results[f"{name}_{batch}"] = value.detach().numpy()
            results[f"{name}_{batch}_gradient"] = embeddings.grad.numpy()
    return results


def tensorflow_addons(arrays):
    import tensorflow as tf

    from stml_tf.losses.tensorflow_addons import TensorFlowAddonsLoss

    def unit(x):
        return tf.math.l2_normalize(x, axis=1)

    def contrastive(x, y):
        # It takes the distances of pairs, and lacks the paper's half.
        i, j = np.triu_indices(len(y), k=1)
        apart = tf.norm(tf.gather(x, i) - tf.gather(x, j), axis=1)
        return TensorFlowAddonsLoss("contrastive_loss", {"margin": 2.0})(y[i] == y[j], apart) / 2

    def n_pairs(x, y):
        # It takes the products of anchors and positives, and has no penalty on norms.
        return TensorFlowAddonsLoss("npairs_loss")(y[::2], tf.matmul(x[::2], x[1::2], transpose_b=True))

    def triplet(mining, distance):
        loss = TensorFlowAddonsLoss(f"triplet_{mining}_loss", {"margin": 0.2, "distance_metric": distance})
        return lambda x, y: loss(y, unit(x))

    functions = {
        "contrastive": contrastive,
        "triplet_semi_hard": triplet("semihard", "squared-L2"),
        "triplet_hard": triplet("hard", "squared-L2"),
        "triplet_semi_hard_plain": triplet("semihard", "L2"),
        "lifted_structure": lambda x, y: TensorFlowAddonsLoss("lifted_struct_loss")(y, x),
        "n_pairs": n_pairs,
    }
    results = {"version": np.array(f"tensorflow-addons 0.23.0, tensorflow {tf.__version__}")}
    for name, function in functions.items():
        for batch in BATCHES if name != "n_pairs" else ("pairs",):
            embeddings = tf.Variable(arrays[f"{batch}_embeddings"])
            with tf.GradientTape() as tape:
                value = function(embeddings, arrays[f"{batch}_labels"])
            results[f"{name}_{batch}"] = value.numpy()
            results[f"{name}_{batch}_gradient"] = tf.convert_to_tensor(tape.gradient(value, embeddings)).numpy()
    return results


if __name__ == "__main__":
    library = sys.argv[1]
    arrays = inputs()
    results = {"pytorch_metric_learning": pytorch_metric_learning, "tensorflow_addons": tensorflow_addons}[library](
        arrays
    )
    np.savez_compressed(Path(__file__).with_name(f"supervised_losses_{library}.npz"), **arrays, **results)
