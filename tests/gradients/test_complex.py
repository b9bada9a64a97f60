"""Complex arrays are checked by their real and imaginary parts, in the convention of each framework."""

from __future__ import annotations

import numpy as np
import pytest

from ffverify.gradients.gradcheck import gradcheck

Z = np.array([1 + 2j, -0.5 + 0.25j])


def quiet(*args, **kwargs):
    return gradcheck(*args, raise_exception=False, **kwargs)


def verdict(*args, **kwargs):
    return str(quiet(*args, **kwargs).verdict)


def square(z):
    return z * z


def test_numpy_with_a_rule_of_its_own():
    assert verdict(square, Z, vjp=lambda v, z: 2 * v * z.conj()) == "correct"
    assert verdict(square, Z, jvp=lambda t, z: 2 * z * t[0]) == "correct"
    wrong = quiet(square, Z, vjp=lambda v, z: 2 * v * z)  # not conjugated
    assert wrong.verdict == "wrong"
    assert "/∂view_as_real(z)[" in wrong.findings[0].where
    assert "np.array([(1+2j), (-0.5+0.25j)], dtype='complex128')" in wrong.reproduction
    assert not wrong.replay().ok
    with pytest.raises(TypeError, match="complex inputs of a NumPy function need vjp="):
        gradcheck(square, Z)


def test_real_numbers_of_complex_ones_and_the_reverse():
    def power(z):
        return np.sum(z.real**2 + z.imag**2)

    assert verdict(power, Z, gradient=lambda z: 2 * z) == "correct"
    assert verdict(power, Z, gradient=lambda z: 2 * z.conj()) == "wrong"

    def turned(x):
        return np.exp(1j * x)

    x = np.array([0.5, -2.0])
    assert verdict(turned, x, vjp=lambda v, x: (v.conj() * 1j * np.exp(1j * x)).real) == "correct"
    assert verdict(turned, x, vjp=lambda v, x: (v * 1j * np.exp(1j * x)).real) == "wrong"


def test_torch():
    torch = pytest.importorskip("torch")
    z = torch.tensor(Z)

    def squared(conjugated):
        class Square(torch.autograd.Function):
            @staticmethod
            def forward(ctx, z):
                ctx.save_for_backward(z)
                return z * z

            @staticmethod
            def backward(ctx, v):
                (z,) = ctx.saved_tensors
                return 2 * v * (z.conj() if conjugated else z)

        return Square.apply

    assert verdict(squared(conjugated=True), z) == "correct"
    assert verdict(squared(conjugated=False), z) == "wrong"
    assert verdict(lambda z: (z * z.conj()).real.sum(), z.to(torch.complex64)) == "correct"
    assert verdict(torch.fft.rfft, torch.tensor([1.0, 2, 3, 5], dtype=torch.float64)) == "correct"
    assert verdict(lambda p: p["z"].abs() * p["x"], {"z": z.conj(), "x": z.real}) == "correct"


def test_jax():
    jax = pytest.importorskip("jax")

    def squared(conjugated):
        @jax.custom_vjp
        def f(z):
            return z * z

        rule = lambda z, v: (2 * v * (z.conj() if conjugated else z),)  # noqa: E731 - a rule
        f.defvjp(lambda z: (z * z, z), rule)
        return f

    with jax.enable_x64(True):
        z = jax.numpy.asarray(Z)
    assert verdict(squared(conjugated=False), z) == "correct"
    assert verdict(squared(conjugated=True), z) == "wrong"
