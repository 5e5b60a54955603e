"""The display of a run: progress and tables on the terminal, curves in TensorBoard, pictures of retrieval."""

from stml_tf.evaluation.agreement import mean_agreement, pseudo_label_agreement
from stml_tf.monitoring.display import Display
from stml_tf.monitoring.epoch_pictures import EpochPictures
from stml_tf.monitoring.figures import figure_to_png, learning_figure, pick_queries, retrieval_figure, save_figure
from stml_tf.monitoring.progress import ProgressCallback
from stml_tf.monitoring.report import compared_with_free, describe_run, epochs_report, metrics_table, say, where_listed
from stml_tf.monitoring.summaries import Summaries
from stml_tf.monitoring.tensorboard_scalars import FreeBaselines, TensorBoardScalars

__all__ = [
    "Display",
    "EpochPictures",
    "FreeBaselines",
    "ProgressCallback",
    "Summaries",
    "TensorBoardScalars",
    "compared_with_free",
    "describe_run",
    "epochs_report",
    "figure_to_png",
    "learning_figure",
    "mean_agreement",
    "metrics_table",
    "pick_queries",
    "pseudo_label_agreement",
    "retrieval_figure",
    "save_figure",
    "say",
    "where_listed",
]
