"""Where engines trip: powers and products at zero, ties, branches that are not taken."""

import numpy as np

from ffverify.reference import (
    elementwise,
    grad,
    hard_swish,
    hessian,
    jacobian,
    jvp,
    relu,
    value_and_grad,
)


def test_powers_at_zero():
    assert grad(lambda x: x**2)(0.0) == 0.0
    assert grad(lambda x: x**1)(0.0) == 1.0
    assert grad(lambda x: x**0)(0.0) == 0.0
    assert grad(grad(lambda x: x**2))(0.0) == 2.0
    assert grad(lambda x, p: x**p)(0.0, 2.0) == 0.0
    assert grad(lambda x, p: x**p)(0.0, 1.0) == 1.0
    assert grad(lambda x, p: x**p)(0.0, 0.0) == 0.0
    assert grad(lambda p: 0.0**p)(2.0) == 0.0
    assert grad(lambda x, p: x**p, 1)(0.0, 3.0) == 0.0
    assert grad(lambda x: x**3)(-2.0) == 12.0


def test_products_with_zeros():
    x = np.array([2.0, 0.0, 3.0])
    np.testing.assert_array_equal(grad(np.prod)(x), [0, 6, 0])
    np.testing.assert_array_equal(grad(np.prod)(np.array([0.0, 0.0, 3.0])), [0, 0, 0])
    np.testing.assert_array_equal(hessian(np.prod)(x), [[0, 3, 0], [3, 0, 2], [0, 2, 0]])
    y = np.arange(1.0, 7.0).reshape(2, 3)
    np.testing.assert_allclose(grad(lambda y: np.sum(np.prod(y, axis=0)))(y), y[::-1])


def test_a_product_of_nothing_has_its_arguments_dtype():
    for dtype in (np.float16, np.float32, np.float64):
        x = np.zeros((0, 2), dtype)
        value, gradient = value_and_grad(lambda x: np.sum(np.prod(x, axis=0)))(x)
        assert (value, value.dtype) == (2, dtype)
        assert (gradient.shape, gradient.dtype) == (x.shape, dtype)


def test_ties_share():
    x = np.array([1.0, 3.0, 3.0])
    np.testing.assert_array_equal(grad(np.max)(x), [0, 0.5, 0.5])
    np.testing.assert_array_equal(grad(np.min)(-x), [0, 0.5, 0.5])
    assert grad(lambda a: np.maximum(a, 1.0))(1.0) == 0.5
    assert grad(np.abs)(0.0) == 0.0
    np.testing.assert_array_equal(grad(np.linalg.norm)(np.zeros(2)), [0, 0])


def test_an_unselected_branch_does_not_poison():
    x = np.array([0.0, 4.0])
    np.testing.assert_array_equal(
        grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)))(x), [0, 0.25]
    )
    with np.errstate(divide="ignore"):  # NumPy's own warning about log 0 and 1/0
        g = grad(lambda x: np.sum(np.where(x > 0, np.log(x), x)))(x)
        np.testing.assert_array_equal(g, [1, 0.25])
        g = grad(lambda x: np.sum(np.where(x > 0, 1 / x, x)))(x)
        np.testing.assert_array_equal(g, [1, -0.0625])
    t = jvp(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)), (x,), (np.ones(2),))[1]
    assert t == 0.25
    # A gradient that is really infinite stays so.
    assert grad(np.sqrt)(0.0) == np.inf


@np.errstate(divide="ignore")  # NumPy's own warning about 1/√0
def test_what_is_not_chosen_has_no_part_however_steep_it_is():
    """In both modes: 0 times the infinite slope of √x at 0 would be NaN."""
    for f in (
        lambda x: np.maximum(np.sqrt(x), 5.0),
        lambda x: np.minimum(-5.0, np.sqrt(x)),
        lambda x: np.fmax(np.sqrt(x), 5.0),
        lambda x: np.clip(np.sqrt(x), 1.0, 2.0),
        lambda x: np.max(np.stack([np.sqrt(x), 5.0 + 0.0 * x])),
        lambda x: np.min(np.stack([np.sqrt(x), 0.0 * x - 5.0])),
        lambda x: relu(-np.sqrt(x) - 1.0),
        lambda x: hard_swish(-np.sqrt(x) - 5.0),
    ):
        assert grad(f)(0.0) == jvp(f, (0.0,), (1.0,))[1] == 0
    wrong = elementwise("maximum", np.maximum, lambda _y, a, b: a > b, lambda _y, a, b: a < b)
    with np.errstate(invalid="ignore"):
        assert np.isnan(jvp(lambda x: wrong(np.sqrt(x), 5.0), (0.0,), (1.0,))[1])


def test_a_quotient_by_pythons_zero_is_numpys():
    x = np.array([1.0, -2.0])
    with np.errstate(all="ignore"):  # NumPy's own warnings
        for zero in (0, 0.0, -0.0):
            slope = np.full(2, np.copysign(np.inf, zero))
            np.testing.assert_array_equal(grad(lambda x, zero=zero: np.sum(x / zero))(x), slope)
            _, y_dot = jvp(lambda x, zero=zero: x / zero, (x,), (np.ones(2),))
            np.testing.assert_array_equal(y_dot, slope)


def test_cumprod_is_right_to_second_order_where_factors_are_zero():
    x = np.array([2.0, 0.0, 3.0, 0.0])
    np.testing.assert_array_equal(
        jacobian(np.cumprod)(x),
        [[1, 0, 0, 0], [0, 2, 0, 0], [0, 6, 0, 0], [0, 0, 0, 0]],
    )
    curvature = np.zeros((4, 4))
    curvature[1, 3] = curvature[3, 1] = 6
    np.testing.assert_array_equal(hessian(lambda x: np.cumprod(x)[-1])(x), curvature)
