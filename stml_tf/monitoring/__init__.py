"""The display of a run: progress and tables on the terminal, curves in TensorBoard, pictures of retrieval."""

from stml_tf.evaluation.agreement import mean_agreement, pseudo_label_agreement
from stml_tf.monitoring.figures import figure_to_png, learning_figure, pick_queries, retrieval_figure, save_figure
from stml_tf.monitoring.progress import ProgressCallback, inspection_progress
from stml_tf.monitoring.report import compared_with_free, describe_run, epochs_report, metrics_table, say, where_listed
from stml_tf.monitoring.summaries import Summaries, TensorBoardScalars

__all__ = [
    "ProgressCallback",
    "Summaries",
    "TensorBoardScalars",
    "compared_with_free",
    "describe_run",
    "epochs_report",
    "figure_to_png",
    "inspection_progress",
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
