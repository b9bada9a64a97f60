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


def fourier_programs():
    """Give programs of torch's that pass through Fourier transforms, and the shapes of their inputs."""
    torch = pytest.importorskip("torch")
    fft, waves = torch.fft, torch.tensor([1.0, 0.5, 0.25j])
    return {
        "filter": (lambda x: fft.irfft(fft.rfft(x) * waves, n=5), [(5,)]),
        "even": (lambda x: fft.irfft(fft.rfft(x).exp(), n=6), [(6,)]),
        "convolution": (lambda x, k: fft.irfft(fft.rfft(x, 8) * fft.rfft(k, 8), 8)[:4], [(4,), (3,)]),
        "spectrum": (lambda x: fft.rfft(x).abs().square(), [(6,)]),
        "phase": (lambda x: (fft.fft(x) + 3).log().imag, [(3,)]),
        "plane": (lambda x: fft.ifft2(fft.fft2(x) ** 2).real, [(2, 3)]),
        "unit": (lambda x: fft.irfft2(fft.rfft2(x, norm="ortho") * 1j, (2, 3), norm="ortho"), [(2, 3)]),
        "mirror": (lambda x: fft.hfft(torch.complex(x, x * x), n=6), [(4,)]),
        "padded": (lambda x: fft.ifft(torch.complex(x, x * x), n=5).conj().imag, [(3,)]),
        "shifted": (lambda x: fft.ifftshift(fft.fftn(x, norm="forward")).imag, [(2, 2, 3)]),
        "windows": (
            lambda x: torch.stft(x, 4, 2, window=torch.ones(4), return_complex=True).imag, [(8,)]),
    }  # fmt: skip


NAMES = (
    "filter", "even", "convolution", "spectrum", "phase", "plane", "unit", "mirror", "padded", "shifted",
    "windows",
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_fourier_transforms_have_an_exact_form(name, dtype):
    torch = pytest.importorskip("torch")
    fn, shapes = fourier_programs()[name]
    rng = np.random.default_rng(NAMES.index(name))
    given = [torch.tensor(rng.normal(size=s), dtype=getattr(torch, dtype)) for s in shapes]
    right = quiet(fn, given, order=2)
    assert right.ok
    assert right.truth == "shadow"

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y.clone()

        @staticmethod
        def backward(ctx, v):
            return v * torch.linspace(1, 1.01, v.numel(), dtype=v.dtype).reshape(v.shape)

    assert verdict(lambda *args: Scaled.apply(fn(*args)), given) == "wrong"


def test_complex_parameters_of_a_module_are_checked_by_their_parts():
    torch = pytest.importorskip("torch")

    class Spectral(torch.nn.Module):
        detached = False

        def __init__(self):
            super().__init__()
            rng = np.random.default_rng(0)
            w = rng.normal(size=(2, 2, 3)) + 1j * rng.normal(size=(2, 2, 3))
            self.w = torch.nn.Parameter(torch.tensor(w, dtype=torch.complex64))

        def forward(self, x):
            w = torch.complex(self.w.real, self.w.imag.detach()) if self.detached else self.w
            modes = torch.zeros(len(x), 2, 5, dtype=torch.cfloat)
            modes[..., :3] = torch.einsum("bix,iox->box", torch.fft.rfft(x)[..., :3], w)
            return torch.fft.irfft(modes, n=x.shape[-1])

    model, x = Spectral(), torch.tensor(np.random.default_rng(1).normal(size=(2, 2, 8)))
    right = quiet(model, x.float())
    assert str(right.verdict) == "correct"
    assert right.truth == "shadow"
    model.detached = True
    wrong = quiet(model, x.float())
    assert str(wrong.verdict) == "wrong"
    assert any("view_as_real(w)[" in f.where for f in wrong.findings)


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
