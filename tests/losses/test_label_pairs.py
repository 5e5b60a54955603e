import numpy as np

from stml_tf.losses.label_pairs import label_pairs, masked_logsumexp, masked_mean


def test_pairs_of_a_batch():
    positive, negative = label_pairs(np.array([3, 1, 3]))
    np.testing.assert_array_equal(positive, [[False, False, True], [False, False, False], [True, False, False]])
    np.testing.assert_array_equal(negative, [[False, True, False], [True, False, True], [False, True, False]])


def test_mean_is_over_what_the_mask_keeps():
    values = np.array([[1.0, 5.0], [9.0, 2.0]], np.float32)
    assert masked_mean(values, values < 4) == 1.5
    assert masked_mean(values, values > 10) == 0.0


def test_logsumexp_is_over_what_the_mask_keeps(random):
    values = random.normal(size=(4, 6)).astype(np.float32)
    mask = random.uniform(size=(4, 6)) < 0.5
    mask[2] = False
    result = np.asarray(masked_logsumexp(values, mask))
    for row, kept, expected in zip(values, mask, result, strict=True):
        if kept.any():
            np.testing.assert_allclose(expected, np.log(np.sum(np.exp(row[kept]))), rtol=1e-5)
        else:
            assert np.isfinite(expected)
            assert np.exp(expected) == 0.0
    assert masked_logsumexp(values + 500, mask)[0] > 400  # No overflow.
