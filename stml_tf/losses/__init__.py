"""Losses, each as a pure function and as a thin Keras class around it."""

from stml_tf.losses.by_name import build_loss
from stml_tf.losses.byol import BYOLLoss, byol_loss
from stml_tf.losses.contrastive import ContrastiveLoss, contrastive_loss
from stml_tf.losses.info_nce import InfoNCELoss, info_nce_loss
from stml_tf.losses.lifted_structure import LiftedStructureLoss, lifted_structure_loss
from stml_tf.losses.mean_shift import MeanShiftLoss, mean_shift_loss
from stml_tf.losses.multi_similarity import MultiSimilarityLoss, multi_similarity_loss
from stml_tf.losses.n_pairs import NPairsLoss, n_pairs_loss
from stml_tf.losses.normalized_softmax import NormalizedSoftmaxLoss, normalized_softmax_loss
from stml_tf.losses.proxy_anchor import ProxyAnchorLoss, proxy_anchor_loss
from stml_tf.losses.relaxed_contrastive import RelaxedContrastiveLoss, relaxed_contrastive_loss
from stml_tf.losses.self_distillation import SelfDistillationLoss, self_distillation_loss
from stml_tf.losses.supervised_contrastive import SupervisedContrastiveLoss, supervised_contrastive_loss
from stml_tf.losses.triplet import TripletLoss, triplet_loss

__all__ = [
    "BYOLLoss",
    "ContrastiveLoss",
    "InfoNCELoss",
    "LiftedStructureLoss",
    "MeanShiftLoss",
    "MultiSimilarityLoss",
    "NPairsLoss",
    "NormalizedSoftmaxLoss",
    "ProxyAnchorLoss",
    "RelaxedContrastiveLoss",
    "SelfDistillationLoss",
    "SupervisedContrastiveLoss",
    "TripletLoss",
    "build_loss",
    "byol_loss",
    "contrastive_loss",
    "info_nce_loss",
    "lifted_structure_loss",
    "mean_shift_loss",
    "multi_similarity_loss",
    "n_pairs_loss",
    "normalized_softmax_loss",
    "proxy_anchor_loss",
    "relaxed_contrastive_loss",
    "self_distillation_loss",
    "supervised_contrastive_loss",
    "triplet_loss",
]
