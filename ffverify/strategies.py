"""Strategies that know where floating-point programs break.

``arrays(dtype, shape)`` draws ndarrays (or torch or JAX arrays) whose elements mix the whole
finite domain, moderate numbers, and edges: zeros of both signs, subnormals, the thresholds where
exp over- and underflows, where 1 + e^z rounds to 1, squares overflow, and the neighbours of any
``edges`` given (kinks, thresholds). Values shrink as Hypothesis shrinks floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ffverify.frameworks.framework import framework as framework_named

from .exact import formats
from .exact.formats import SIGNS, Array, Format, picked

_ONE_BY_ONE = 1024  # elements that Hypothesis can draw one by one
_FEW = 64  # of a larger array
_MODERATE = 64.0  # the largest number of moderate size

Shape = int | tuple[int, ...] | st.SearchStrategy[tuple[int, ...]]


def neighbours(values: Sequence[float], fmt: Format) -> list[float]:
    """Give the numbers of a format that are next to some values, and these, rounded, sorted."""
    kind = np.dtype(fmt.carrier).type
    with np.errstate(over="ignore"):  # beyond the largest lies infinity, which is left out
        if fmt.name == "bfloat16":
            here = np.array([_to_bfloat16(float(v)) for v in values], dtype=kind)
            step = np.exp2(fmt.ulp_exponents(here.astype(np.float64))).astype(kind)
            below, above = here - step, here + step
        else:
            here = np.array(values, dtype=kind)
            below, above = np.nextafter(here, kind(-np.inf)), np.nextafter(here, kind(np.inf))
    smallest = 2.0**fmt.smallest_exponent
    near = (float(x) + 0.0 for x in np.concatenate([here, below, above]))  # -0 is no neighbour of 0
    return sorted({x for x in near if np.isfinite(x) and (x == 0 or abs(x) >= smallest)})


@cache
def edges_of(fmt: Format) -> tuple[float, ...]:
    """Give the numbers where programs in a format change their behaviour, of both signs."""
    log2 = math.log(2)
    largest, tiny = float(fmt.largest), 2.0**fmt.smallest_exponent
    positive = [
        0.0, tiny, 2.0**fmt.emin, fmt.unit_roundoff, math.sqrt(fmt.unit_roundoff), 0.5, 1.0, 20.0,
        fmt.precision * log2, fmt.precision * log2 / 2,  # 1 + e^-z = 1; 1 - tanh z = 0
        (fmt.emax + 1) * log2, -fmt.emin * log2, -fmt.smallest_exponent * log2,  # exp's thresholds
        math.sqrt(largest), largest,
    ]  # fmt: skip
    both = {s * x for x in neighbours(positive, fmt) for s in (1.0, -1.0)}
    return tuple(sorted(both, key=lambda x: (abs(x), x)))


def floats(
    dtype: Any,
    *,
    min_value: float | None = None,
    max_value: float | None = None,
    edges: Sequence[float] = (),
) -> st.SearchStrategy[float]:
    """Draw one finite number of a format, from a range, edges included.

    Raises
    ------
    ValueError
        If the range holds no number of the format.
    """
    fmt = formats.of(dtype)
    low, high = _range(fmt, min_value, max_value)
    kind = np.dtype(fmt.carrier).type
    inside_low, inside_high = _inward(low, high, kind)
    if not inside_low <= inside_high:
        raise ValueError(
            f"no {fmt.name} number lies in [{low}, {high}]: "
            "give min_value <= max_value, further apart"
        )
    width: Any = 8 * np.dtype(fmt.carrier).itemsize

    def between(a: float, b: float) -> st.SearchStrategy[float]:
        return st.floats(
            a,
            b,
            width=width,
            allow_nan=False,
            allow_infinity=False,
            allow_subnormal=None if fmt.gradual else False,
        )

    choices = [between(inside_low, inside_high)]
    moderate_low, moderate_high = _inward(max(low, -_MODERATE), min(high, _MODERATE), kind)
    if moderate_low <= moderate_high:
        choices.append(between(moderate_low, moderate_high))
    choices += [st.sampled_from(some) for some in _special(fmt, low, high, edges)]
    drawn = st.one_of(choices)
    return drawn.map(_to_bfloat16) if fmt.name == "bfloat16" else drawn


def _special(
    fmt: Format, low: float, high: float, edges: Sequence[float]
) -> tuple[tuple[float, ...], ...]:
    """Give the special numbers of a range, where there are any: those beside edges, and the format's own."""
    ends = _inward(low, high, np.dtype(fmt.carrier).type)
    both = (neighbours(edges, fmt), (*edges_of(fmt), *ends))
    inside = (tuple(e for e in some if low <= e <= high) for some in both)
    return tuple(some for some in inside if some)


def _range(fmt: Format, min_value: float | None, max_value: float | None) -> tuple[float, float]:
    largest = float(fmt.largest)
    return (
        -largest if min_value is None else min_value,
        largest if max_value is None else max_value,
    )


def _inward(low: float, high: float, kind: Any) -> tuple[float, float]:
    """Round the ends of a range to numbers of a type that lie in it."""
    with np.errstate(over="ignore"):  # beyond the format: no number lies there
        a, b = kind(low), kind(high)
    if float(a) < low:
        a = np.nextafter(a, kind(np.inf))
    if float(b) > high:
        b = np.nextafter(b, kind(-np.inf))
    return float(a), float(b)


def _to_bfloat16(x: float) -> float:
    bits = np.float32(x).view(np.uint32) & np.uint32(0xFFFF0000)  # truncation keeps it finite
    return float(bits.view(np.float32))


def arrays(
    dtype: Any,
    shape: Shape,
    *,
    min_value: float | None = None,
    max_value: float | None = None,
    edges: Sequence[float] = (),
    framework: str = "numpy",
    device: str | None = None,
) -> st.SearchStrategy[Any]:
    """Draw arrays of finite floats.

    Parameters
    ----------
    dtype
        float64, float32, float16 or bfloat16 (the last drawn as float32 arrays for NumPy).
    shape
        An int, a tuple, or a strategy of tuples.
    min_value, max_value
        Closed range of the elements; the whole finite domain by default.
    edges
        Points of special interest; they are drawn often, with their neighbours.
    framework, device
        ``"numpy"``, ``"torch"`` or ``"jax"``: whose arrays to give, and where.

    Raises
    ------
    TypeError, ValueError
        If the dtype is unknown, the range holds no number of it, or the shape is none.
    """
    fmt = formats.of(dtype)
    elements = floats(dtype, min_value=min_value, max_value=max_value, edges=edges)
    low, high = _range(fmt, min_value, max_value)
    _refuse_lengths(shape)
    shapes = shape if isinstance(shape, st.SearchStrategy) else st.just(shape)

    @cache  # to make a strategy and to validate it takes as long as to draw from it
    def of_shape(one: int | tuple[int, ...]) -> st.SearchStrategy[Array]:
        return _of_shape(one, fmt, elements, low, high)

    drawn = shapes.flatmap(lambda one: of_shape(one if isinstance(one, int) else tuple(one)))
    if not isinstance(shape, st.SearchStrategy):
        size = (shape,) if isinstance(shape, int) else tuple(shape)
        _WHOLE[drawn] = Whole(size, low, high, fmt, _special(fmt, low, high, edges))
    drawn = _native(drawn, fmt.name, framework, device)
    _MADE[drawn] = {
        "dtype": fmt, "shape": shape, "min_value": low, "max_value": high, "edges": tuple(edges),
        "framework": framework, "device": device,
    }  # fmt: skip
    return drawn


def _refuse_lengths(shape: Any) -> None:
    """Refuse what is no shape; those that a strategy draws NumPy refuses."""
    lengths = shape if isinstance(shape, tuple | list) else [shape]
    if isinstance(shape, st.SearchStrategy):
        return
    if not all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in lengths):
        raise TypeError(f"shape={shape!r}: give a number of elements, or a tuple of them")
    if any(n < 0 for n in lengths):
        raise ValueError(f"shape={shape!r}: a length is negative, give 0 or more")


def _of_shape(
    shape: int | tuple[int, ...],
    fmt: Format,
    elements: st.SearchStrategy[float],
    low: float,
    high: float,
) -> st.SearchStrategy[Array]:
    """Draw the elements of small arrays; of large ones a seed for all, and a few that are put among them."""
    kind = np.dtype(fmt.carrier)
    if np.prod(shape) <= _ONE_BY_ONE:
        return hnp.arrays(kind, shape, elements=elements, fill=st.nothing())

    def mixed(seed: int, few: Array) -> Array:
        rng = np.random.default_rng(seed)
        out = generic(rng, shape, fmt, low, high)
        out.ravel()[rng.choice(out.size, few.size, replace=False)] = few
        return out

    few = hnp.arrays(kind, _FEW, elements=elements, fill=st.nothing())
    return st.builds(mixed, st.integers(0, 2**32 - 1), few)


def generic(
    rng: np.random.Generator, shape: int | tuple[int, ...], fmt: Format, low: float, high: float
) -> Array:
    """Give numbers of a range without anything special about them, of moderate size if it has such."""
    kind = np.dtype(fmt.carrier)
    near_low, near_high = _inward(max(low, -8.0), min(high, 8.0), kind.type)
    if not near_low <= near_high:
        near_low, near_high = _inward(low, high, kind.type)
    out = np.asarray(rng.uniform(near_low, near_high, shape), dtype=kind)
    if fmt.name == "bfloat16":
        out = np.asarray(out.view(np.uint32) & np.uint32(0xFFFF0000)).view(kind)
    return np.asarray(np.clip(out, near_low, near_high), dtype=kind)


@dataclass(frozen=True)
class Whole:
    """How the arrays of a strategy are drawn as a whole, by a generator of random numbers.

    Hypothesis draws number by number, which takes longer than to check a small array.

    Attributes
    ----------
    shape, low, high
        Of the numbers that are drawn.
    fmt
        Their format; None for integers.
    special
        Numbers that are drawn often.
    steps
        What is made of the array, one after another.
    """

    shape: tuple[int, ...]
    low: float
    high: float
    fmt: Format | None
    special: tuple[tuple[float, ...], ...] = ()
    steps: tuple[Callable[[Array], Any], ...] = ()

    def generic(self, rng: np.random.Generator) -> Array:
        """Draw numbers without anything special about them."""
        if self.fmt is None:
            return rng.integers(int(self.low), int(self.high), self.shape, endpoint=True)
        return generic(rng, self.shape, self.fmt, self.low, self.high)

    def drawn(self, rng: np.random.Generator) -> Array:
        """Draw numbers: generic ones, among which others are put, and some that are alike."""
        out = self.generic(rng)
        size, flat = out.size, out.reshape(-1)
        if self.fmt is None or not size or rng.random() < _GENERIC:
            return out
        places = rng.choice(size, size if size <= _ONE_BY_ONE else _FEW, replace=False)
        flat[places] = self._mixed(rng, places.size)
        if rng.random() < _ALIKE:
            alike = rng.random(places.size) < rng.random()
            flat[places[alike]] = picked(rng, picked(rng, flat[places], 2), int(alike.sum()))
        return flat.reshape(self.shape)

    def _mixed(self, rng: np.random.Generator, count: int) -> Array:
        """Draw as many numbers of any size, of moderate size, whole, and special ones."""
        assert self.fmt is not None  # noqa: S101 - callers asked
        kind = np.dtype(self.fmt.carrier)
        largest = max(abs(self.low), abs(self.high))
        exponents = rng.uniform(self.fmt.smallest_exponent, np.log2(largest or 1.0), count)
        any_size = np.clip(picked(rng, SIGNS, count) * np.exp2(exponents), self.low, self.high)
        low, high = max(self.low, -_MODERATE), min(self.high, _MODERATE)
        low, high = (low, high) if low <= high else (self.low, self.high)
        moderate = rng.uniform(low, high, count)
        whole = np.clip(np.rint(moderate) + 0.0, self.low, self.high)
        moderate = np.where(rng.random(count) < _WHOLE_NUMBERS, whole, moderate)
        choices = [
            any_size,
            moderate,
            *(picked(rng, np.asarray(some), count) for some in self.special),
        ]
        chosen = rng.integers(0, len(choices), count)
        low, high = _inward(self.low, self.high, kind.type)
        out = np.choose(chosen, choices).clip(low, high)
        signed = (out == 0) & (low < 0) & (rng.random(count) < _NEGATIVE)
        return _held(np.where(signed, -0.0, out), self.fmt)

    def made(self, numbers: Array) -> Any:
        """Give what the strategy gives, made of numbers."""
        out: Any = numbers
        for step in self.steps:
            out = step(out)
        return out


# How often nothing special is drawn, numbers that are alike, whole ones among those of moderate size, and
# the negative zero among zeros.
_GENERIC, _ALIKE, _WHOLE_NUMBERS, _NEGATIVE = 0.125, 0.25, 0.5, 0.03

_WHOLE: WeakKeyDictionary[st.SearchStrategy[Any], Whole] = WeakKeyDictionary()


def whole(strategy: Any) -> Whole | None:
    """Tell how the arrays of a strategy are drawn as a whole; None of strategies that are none of ours."""
    return _WHOLE.get(strategy) if isinstance(strategy, st.SearchStrategy) else None


def _mapped(
    drawn: st.SearchStrategy[Array], step: Callable[[Array], Any]
) -> st.SearchStrategy[Any]:
    """Give a strategy of what a function makes of arrays; they are drawn as a whole where those are."""
    out = drawn.map(step)
    known = whole(drawn)
    if known is not None:
        _WHOLE[out] = replace(known, steps=(*known.steps, step))
    return out


_MADE: WeakKeyDictionary[st.SearchStrategy[Any], dict[str, Any]] = WeakKeyDictionary()


def arguments(strategy: Any) -> dict[str, Any] | None:
    """Give what `arrays` makes a strategy from, its range in numbers; None if it was made otherwise."""
    return _MADE.get(strategy) if isinstance(strategy, st.SearchStrategy) else None


def structure(strategy: Any) -> str:
    """Give what a strategy declares of the arrays that it draws (see `ffverify.frameworks.declared`)."""
    return _STRUCTURES.get(strategy, "") if isinstance(strategy, st.SearchStrategy) else ""


_STRUCTURES: WeakKeyDictionary[st.SearchStrategy[Any], str] = WeakKeyDictionary()


def _native(
    drawn: st.SearchStrategy[Array], dtype: str, framework: str, device: str | None
) -> st.SearchStrategy[Any]:
    if framework == "numpy":
        return drawn
    native = framework_named(framework).array
    return _mapped(drawn, lambda a: native(a, dtype, device))


def _following(
    drawn: st.SearchStrategy[Array], dtype: str, framework: str | None, device: str | None
) -> st.SearchStrategy[Any]:
    if framework is None:
        _FOLLOWING.add(drawn)
    return _native(drawn, dtype, framework or "numpy", device)


_FOLLOWING: WeakSet[st.SearchStrategy[Any]] = WeakSet()


def follows(strategy: Any) -> bool:
    """Tell whether what a strategy draws goes with the arrays beside it: labels and masks."""
    return isinstance(strategy, st.SearchStrategy) and strategy in _FOLLOWING


def labels(
    shape: Shape, classes: int, *, framework: str | None = None, device: str | None = None
) -> st.SearchStrategy[Any]:
    """Draw integer labels 0 … classes - 1; without ``framework`` NumPy's, and in `gradcheck` as it needs.

    Raises
    ------
    ValueError
        If there is no class.
    """
    if classes < 1:
        raise ValueError(f"classes={classes!r}: give at least one")
    return integers("int64", shape, 0, classes - 1, framework=framework, device=device)


def integers(
    dtype: str,
    shape: Shape,
    min_value: int,
    max_value: int,
    *,
    framework: str | None = None,
    device: str | None = None,
) -> st.SearchStrategy[Any]:
    """Draw arrays of integers from a closed range, of whose framework as `labels`.

    Raises
    ------
    ValueError
        If the dtype does not hold the range.
    """
    limits = np.iinfo(dtype)
    if not limits.min <= min_value <= max_value <= limits.max:
        raise ValueError(
            f"[{min_value}, {max_value}] is no range of {dtype}: give one within "
            f"[{limits.min}, {limits.max}]"
        )
    elements = st.integers(min_value, max_value)
    drawn = hnp.arrays(np.dtype(dtype), shape, elements=elements, fill=st.nothing())
    _whole_integers(drawn, dtype, shape, min_value, max_value)
    return _following(drawn, dtype, framework, device)


def _whole_integers(
    drawn: st.SearchStrategy[Array], dtype: str, shape: Shape, low: int, high: int
) -> None:
    _refuse_lengths(shape)
    if not isinstance(shape, st.SearchStrategy):
        size = (shape,) if isinstance(shape, int) else tuple(shape)
        _WHOLE[drawn] = Whole(size, low, high, None, (), (lambda a: a.astype(dtype),))


def booleans(
    shape: Shape, *, framework: str | None = None, device: str | None = None
) -> st.SearchStrategy[Any]:
    """Draw masks: arrays of truth values, of whose framework as `labels`."""
    drawn = hnp.arrays(np.bool_, shape, elements=st.booleans(), fill=st.nothing())
    _whole_integers(drawn, "bool", shape, 0, 1)
    return _following(drawn, "bool", framework, device)


def symmetric(
    dtype: Any, shape: tuple[int, ...], *, framework: str = "numpy", device: str | None = None,
    min_value: float | None = -8.0, max_value: float | None = 8.0,
) -> st.SearchStrategy[Any]:  # fmt: skip
    """Draw symmetric matrices in the last two axes, which `gradcheck` varies as such."""
    square(shape)
    elements = arrays(dtype, shape, min_value=min_value, max_value=max_value)

    def mirrored(a: Array) -> Array:
        whole: Array = np.tril(a) + np.swapaxes(np.tril(a, -1), -1, -2)
        return whole

    return _declared("symmetric", _mapped(elements, mirrored), dtype, framework, device)


def positive_definite(
    dtype: Any, shape: tuple[int, ...], *, framework: str = "numpy", device: str | None = None
) -> st.SearchStrategy[Any]:
    """Draw symmetric positive definite matrices in the last two axes, which `gradcheck` varies as such.

    Their eigenvalues lie between 1 and 3 (Gershgorin).
    """
    n = square(shape)
    elements = arrays(dtype, shape, min_value=-1.0, max_value=1.0)

    def dominant(a: Array) -> Array:
        half = np.tril(a) / n
        out: Array = half + np.swapaxes(np.tril(half, -1), -1, -2) + 2 * np.eye(n, dtype=a.dtype)
        return out

    return _declared("positive_definite", _mapped(elements, dominant), dtype, framework, device)


def orthogonal(
    dtype: Any, shape: tuple[int, ...], *, framework: str = "numpy", device: str | None = None
) -> st.SearchStrategy[Any]:
    """Draw matrices with orthonormal columns in the last two axes, which `gradcheck` varies as such."""
    if len(shape) < 2 or shape[-1] > shape[-2]:
        raise ValueError(f"shape={shape!r}: orthonormal columns are at most as many as rows")
    elements = arrays("float64", shape, min_value=-2.0, max_value=2.0)

    def rotated(a: Array) -> Array:
        q: Array = np.linalg.qr(a + 4 * np.eye(shape[-2], shape[-1]))[0]
        return q

    return _declared("orthogonal", _mapped(elements, rotated), dtype, framework, device)


def simplex(
    dtype: Any, shape: Shape, *, framework: str = "numpy", device: str | None = None
) -> st.SearchStrategy[Any]:
    """Draw probabilities that add up to 1 along the last axis, which `gradcheck` varies as such."""
    elements = arrays("float64", shape, min_value=2.0**-10, max_value=1.0)

    def normalised(a: Array) -> Array:
        shares: Array = a / a.sum(axis=-1, keepdims=True)
        return shares

    return _declared("simplex", _mapped(elements, normalised), dtype, framework, device)


def square(shape: tuple[int, ...]) -> int:
    """Give how many rows the square matrices of a shape have.

    Raises
    ------
    ValueError
        If the last two axes are not alike.
    """
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(f"shape={shape!r}: give square matrices, as in (3, 3)")
    return shape[-1]


def _declared(
    kind: str, drawn: st.SearchStrategy[Array], dtype: Any, framework: str, device: str | None
) -> st.SearchStrategy[Any]:
    fmt = formats.of(dtype)
    out = _native(_mapped(drawn, lambda a: _held(a, fmt)), fmt.name, framework, device)
    _STRUCTURES[out] = kind
    return out


def _held(a: Array, fmt: Format) -> Array:
    """Round an array to a format, as its carrier holds it."""
    held = a.astype(fmt.carrier)
    if fmt.name == "bfloat16":
        held = (held.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.asarray(held)
