"""The recipe, a typed JSON document that defines a training run."""

from collections.abc import Iterator
from itertools import chain

from pydantic import Field, JsonValue, model_validator

from stml_tf import registry
from stml_tf.recipe import rules
from stml_tf.recipe.data import Data
from stml_tf.recipe.names import MethodName
from stml_tf.recipe.sections import (
    MAX_SEED,
    Baseline,
    Batch,
    Evaluation,
    Loss,
    Model,
    Optimizer,
    Sampling,
    Schedule,
    Section,
    Teacher,
    Training,
    Views,
)
from stml_tf.recipe.supervision import Supervision


class Recipe(Section):
    """A recipe, which holds everything that defines a training run."""

    name: str = Field(
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Name of the run folder and of the SavedModel: letters, digits, dots, dashes and underscores.",
    )
    about: str = Field("", description="What the recipe is for, in a sentence.")
    reasons: dict[str, str] = Field(
        {}, description="Why values were chosen, by the path of their key, such as loss.sigma; only for readers."
    )
    method: MethodName = Field("self_taught", description="The training method.")
    method_options: dict[str, JsonValue] = Field(
        {}, description="Further arguments of a method that you registered, passed on as they are."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of all random numbers in the run.")
    data: Data = Field(description="The images to train and test on.")
    views: Views = Field(description="The random views of each image.")
    model: Model = Field(description="The network.")
    teacher: Teacher = Field(Teacher(), description="The moving average of the network that makes the pseudo labels.")
    sampling: Sampling = Field(Sampling(), description="How a batch is drawn.")
    loss: Loss = Field(Loss(), description="The loss of self_taught.")
    supervision: Supervision = Field(
        Supervision(), description="Learning from labels, in supervised and semi_supervised."
    )
    baseline: Baseline = Field(Baseline(), description="The settings of moco, byol and mean_shift.")
    batch: Batch = Field(Batch(), description="The size of a batch.")
    optimizer: Optimizer = Field(Optimizer(), description="The optimizer.")
    schedule: Schedule = Field(Schedule(), description="How the learning rate changes.")
    training: Training = Field(Training(), description="How long to train.")
    evaluation: Evaluation = Field(Evaluation(), description="How the result is measured.")

    @model_validator(mode="after")
    def _sections_fit_together(self) -> "Recipe":
        if conflicts := list(self._conflicts()):
            raise ValueError("\n".join(conflicts))
        return self

    @property
    def embedding(self) -> str:
        """A description of the embedding that is evaluated and exported."""
        if not registry.methods.find(self.method).reads_key("baseline.embedding"):
            return f"embeddings of {self.model.embedding_dim} dimensions"
        if self.baseline.embedding == "projection":
            return f"embeddings of {self.model.embedding_dim} dimensions, the output of the MLP head"
        return "the pooled features below the MLP head as embeddings"

    @property
    def learns_from_labels(self) -> bool:
        return registry.methods.find(self.method).learns_from_labels

    @property
    def trains(self) -> bool:
        """Whether the network is trained; otherwise its heads are only fitted, once."""
        return registry.methods.find(self.method).trains

    @property
    def has_linear_heads(self) -> bool:
        """Whether the student has the two linear heads."""
        return registry.methods.find(self.method).reads_key("model.head")

    @property
    def starts_whitened(self) -> bool:
        """Whether the heads start as a whitening, unless the weights include heads."""
        default = "whitened" if self.model.weights is not None or not self.trains else "orthogonal"
        return self.has_linear_heads and (self.model.head or default) == "whitened"

    @property
    def images_per_step(self) -> int:
        """The number of images in a training step."""
        labels_alone = registry.methods.find(self.method).learns_from == "labels"
        return self.supervision.num_labeled if labels_alone else self.batch.size

    @property
    def registered_names(self) -> dict[str, str]:
        """The names that the recipe takes from the registers, by kind of register."""
        return {
            "backbone": self.model.backbone,
            "data set": self.data.name,
            "method": self.method,
            "optimizer": self.optimizer.name,
            **({"loss": self.supervision.loss} if self.learns_from_labels else {}),
        }

    def _conflicts(self) -> Iterator[str]:
        method = registry.methods.find(self.method)
        sections = {name: value for name, value in self if isinstance(value, Section)}
        return chain(
            rules.unread_keys(method, sections),
            rules.method_option_conflicts(method, self.method_options),
            rules.rewhitening_conflicts(method, self.model, self.optimizer, starts_whitened=self.starts_whitened),
            rules.schedule_free_conflicts(self.optimizer, starts_whitened=self.starts_whitened),
            rules.two_view_conflicts(method, self.sampling, self.views),
            rules.memory_conflicts(method, self.batch, self.baseline),
            rules.label_conflicts(method, self.data, self.supervision, self.batch, self.sampling, self.training)
            if method.learns_from_labels
            else rules.neighbor_conflicts(self.batch, self.sampling),
            rules.memory_of_a_step_conflicts(self.images_per_step, self.views),
            rules.step_conflicts(self.images_per_step, self.batch, self.data, self.training),
            rules.schedule_conflicts(self.schedule, self.training),
            rules.evaluation_conflicts(self.evaluation, self.views),
        )
