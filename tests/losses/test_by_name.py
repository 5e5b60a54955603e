import inspect

import pytest

from stml_tf import registry
from stml_tf.errors import UserError
from stml_tf.losses import TripletLoss, build_loss

# For each loss an option, and a value other than its default.
OPTIONS = {
    "contrastive": {"margin": 2.0},
    "lifted_structure": {"margin": 2.0},
    "multi_similarity": {"threshold": 1.0},
    "n_pairs": {"norm_weight": 0.1},
    "normalized_softmax": {"temperature": 0.5},
    "proxy_anchor": {"alpha": 16.0},
    "supervised_contrastive": {"temperature": 0.5},
    "triplet": {"mining": "hard"},
}


@pytest.mark.parametrize("name", registry.losses)
def test_every_loss_is_built_with_its_options(name):
    loss = build_loss(name, num_classes=3, dim=2, **OPTIONS[name])
    assert type(loss) is registry.resolve(registry.losses[name].build)
    assert loss.name == name
    assert loss.get_config().items() >= OPTIONS[name].items()


@pytest.mark.parametrize("name", registry.losses)
def test_every_option_is_kept_by_serialisation(name):
    config = build_loss(name, num_classes=3, dim=2, **OPTIONS[name]).get_config()
    build = registry.resolve(registry.losses[name].build)
    assert set(config) == set(inspect.signature(build).parameters)
    assert build.from_config(config).get_config() == config


def test_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r'Unknown loss "tripplet"; allowed: contrastive, .*; did you mean "triplet"\?'):
        build_loss("tripplet")


def test_unknown_option_is_refused_with_the_nearest():
    message = (
        r"Loss 'triplet' has no option 'marjin'; allowed: margin, mining, normalize, squared; did you mean \"margin\"\?"
    )
    with pytest.raises(UserError, match=message):
        build_loss("triplet", marjin=1.0)


def test_proxies_need_classes_and_width():
    with pytest.raises(ValueError, match="Loss 'proxy_anchor' has proxies; build it with num_classes and dim"):
        build_loss("proxy_anchor", num_classes=3)


def test_other_losses_pass_over_classes_and_width():
    assert isinstance(build_loss("triplet", num_classes=3, dim=2), TripletLoss)
