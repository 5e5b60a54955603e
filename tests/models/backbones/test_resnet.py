import numpy as np
import pytest

from stml_tf.models.backbones.resnet import build_resnet18, build_resnet34, build_resnet50, preprocess_resnet


def test_pixels_are_standardised():
    pixels = np.array([[0.0, 0.0, 0.0], [255.0, 255.0, 255.0]], np.float32).reshape(1, 2, 3)
    expected = [[-2.11790, -2.03571, -1.80444], [2.24891, 2.42857, 2.64]]
    np.testing.assert_allclose(preprocess_resnet(pixels)[0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "num_parameters"),
    # torchvision's published counts without the classifier.
    [(build_resnet18, 11_176_512), (build_resnet34, 21_284_672), (build_resnet50, 23_508_032)],
)
def test_networks_have_as_many_parameters_as_published(build, num_parameters):
    assert sum(int(np.prod(weight.shape)) for weight in build().trainable_weights) == num_parameters


def test_convolutions_start_as_torchvision_has_them():
    network = build_resnet18()
    for name, fan_out in (("conv1", 7 * 7 * 64), ("layer4.0.conv2", 3 * 3 * 512), ("layer2.0.downsample.0", 128)):
        kernel = np.asarray(network.get_layer(name).kernel)
        deviation = np.sqrt(2 / fan_out)
        standard_error = deviation / np.sqrt(kernel.size)  # the weights differ from run to run
        np.testing.assert_allclose([kernel.mean(), kernel.std()], [0, deviation], atol=5 * standard_error)
        # A normal distribution that is not cut off at two deviations.
        assert np.abs(kernel).max() > 3 * kernel.std()


def test_strides_are_in_the_3x3_convolutions():
    network = build_resnet50()
    assert network.get_layer("layer2.0.conv1").strides == (1, 1)
    assert network.get_layer("layer2.0.conv2").strides == (2, 2)
