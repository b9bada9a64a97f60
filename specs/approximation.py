"""Section 6.4, first part: what networks with one hidden layer approximate, and what they learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, exp, sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np

from ffverify.conformance.check import Check
from ffverify.conformance.claim import claim
from ffverify.conformance.draws import array, integers, points, rows
from ffverify.conformance.pictures import Curve, Panel
from ffverify.exact.arithmetic import BALLS
from ffverify.exact.arrays import PreciseArray
from ffverify.exact.elements import Undecided, arb
from ffverify.exact.formats import Array
from ffverify.truth import textbook

STEEPNESS = 16  # of a unit, per cell of its grid


@dataclass(frozen=True)
class Target:
    """A continuous function on [0, 1] whose modulus of continuity is at most size · δ^exponent.

    ``function`` takes balls and gives balls that contain all values on them.
    """

    function: Callable[[Any], Any]
    size: float
    exponent: float

    def width(self, epsilon: float) -> int:
        """Give a number of units with which `network` stays within 15/16 of epsilon.

        The network is Σ_i g(i/N) B_i(x), where the B_i ≥ 0 add up to 1: they are the chances of an
        integer I with P(I ≥ i) = σ(κ(Nx - i + ½)). Its error is at most the mean of ω(|I/N - x|),
        which is at most ω(mean of |I/N - x|), since ω is concave; and the mean of |I - Nx| is at
        most ½ + 2e^(-κ/2) / (1 - e^(-κ)), the ½ for a step and the rest for its tails.
        """
        distance = 0.5 + 2 * exp(-STEEPNESS / 2) / (1 - exp(-STEEPNESS))
        cells: float = (self.size / (15 / 16 * epsilon)) ** (1 / self.exponent)
        return max(1, ceil(distance * cells))

    def network(self, width: int, unit: str, dtype: Any) -> list[Array]:
        """Give W, c, w, b: a step of height g(i/N) - g((i-1)/N) in the middle of every cell."""
        with BALLS.precision(128):
            heights = self.function(BALLS.array(np.arange(width + 1) / width)).values.astype(float)
        W, c = np.full((1, width), STEEPNESS * width), -STEEPNESS * (np.arange(width) + 0.5)
        w, b = np.diff(heights)[:, None], heights[:1]
        if unit == "tanh":  # σ(z) = ½ + ½ tanh(z/2)
            W, c, w, b = W / 2, c / 2, w / 2, (heights[:1] + heights[-1:]) / 2
        return [p.astype(dtype) for p in (W, c, w, b)]


def _root(x: Any) -> Any:
    """Give balls that contain the roots of all |t|, t in the balls given."""
    ends = np.frompyfunc(lambda t: t.abs_lower().sqrt().union(t.abs_upper().sqrt()), 1, 1)
    return PreciseArray(ends(x.values), BALLS)


def target(
    kind: str, sizes: Array, places: Array, frequencies: Sequence[float] = (1, 2, 3)
) -> Target:
    """Make a sum of waves, a polygon, or a sum of roots (continuous, but not Lipschitz)."""
    shapes: dict[str, Callable[[Any, float, float], Any]] = {
        "waves": lambda x, c, k: np.cos(k * x + 6 * c),
        "polygon": lambda x, c, _k: abs(x - c),
        "roots": lambda x, c, _k: _root(x - c),
    }
    terms = [
        (float(a), float(c), float(k)) for a, c, k in zip(sizes, places, frequencies, strict=True)
    ]
    return Target(
        function=lambda x: sum(a * shapes[kind](x, c, k) for a, c, k in terms),
        size=sum(abs(a) * (k if kind == "waves" else 1) for a, _, k in terms),
        exponent=0.5 if kind == "roots" else 1.0,
    )


def exceeds(error: Callable[[Any], Any], epsilon: float, cells: int) -> float | None:
    """Give a point of [0, 1] near which |error| > epsilon for certain; None if there is none.

    Balls with dyadic, hence exact, centres and radii cover the interval, to begin with at least
    as many as ``cells``; a ball that decides nothing is halved.

    Raises
    ------
    Undecided
        If balls of radius 2^-40 still decide nothing.
    """
    radius = 0.5 ** cells.bit_length() / 2
    centres = np.arange(radius, 1, 2 * radius)
    while len(centres) and radius > 2.0**-40:
        balls = np.array([arb(m, radius) for m in centres.tolist()], dtype=object)
        found = [abs(e) for e in error(PreciseArray(balls, BALLS)).values.tolist()]
        for centre, e in zip(centres.tolist(), found, strict=True):
            if e.abs_lower() > epsilon:
                return float(centre)
        radius /= 2
        undecided = centres[[not e.abs_upper() <= epsilon for e in found]]
        centres = np.concatenate([undecided - radius, undecided + radius])
    if len(centres):
        raise Undecided(f"whether |error| is above {epsilon} near {centres[0]}")
    return None


def one_layer(unit: str) -> Callable[..., Any]:
    """Give the program of a network with one hidden layer."""

    def network(f: Any, x: Any, W: Any, c: Any, w: Any, b: Any) -> Any:
        return f.affine(getattr(f, unit)(f.affine(x, W, c)), w, b)

    return network


# The textbook's tanh has z four times, which widens balls: Arb's own is as narrow as can be.
IN_BALLS = SimpleNamespace(
    affine=textbook.namespace.affine, sigmoid=textbook.namespace.sigmoid, tanh=np.tanh
)


@claim(
    "6.4",
    "A network with a linear output and one hidden layer of squashing units comes as near to a "
    "continuous function on a closed and bounded set as one wants, given enough units.",
    functions=["affine", "sigmoid", "tanh"],
    examples=12,
    kind=integers(0, 2),
    sizes=array(3, low=-0.5, high=0.5),
    places=array(3, low=0, high=1),
    halvings=integers(2, 4),
    x=points(low=0, high=1),
    plane=rows(2, low=0, high=1),
)
def one_hidden_layer_approximates_continuous_functions(
    check: Check, kind: int, sizes: Array, places: Array, halvings: int, x: Array, plane: Array
) -> None:
    wanted = target(["waves", "polygon", "roots"][kind], sizes, places)
    epsilon = 0.5**halvings
    width = wanted.width(epsilon)
    for unit in ("sigmoid", "tanh"):
        program, parameters = one_layer(unit), wanted.network(width, unit, check.fmt.carrier)
        with BALLS.precision(64):
            exact = [BALLS.array(p) for p in parameters]

            def error(x: Any, program: Any = program, exact: Any = exact) -> Any:
                return program(IN_BALLS, x[:, None], *exact)[:, 0] - wanted.function(x)

            worst = exceeds(error, epsilon, 8 * width)
        where = f"point where {width} {unit} units are further than {epsilon} from the target"
        check.that(worst is None, where, worst, None)
        check.value(program, x[:8, None], *parameters)
    waves_on_a_square(check, sizes, places, epsilon, plane)


def waves_on_a_square(
    check: Check, sizes: Array, places: Array, epsilon: float, plane: Array
) -> None:
    """Approximate a sum of plane waves, each by units along its own direction, at some points."""
    directions = np.array([[1.0, 2.0], [3.0, 1.0], [2.0, 2.0]])
    spans = directions.sum(axis=1)  # direction · point lies in [0, span]
    waves = [
        target("waves", sizes[[k]], places[[k]], frequencies=spans[[k]]) for k in range(len(spans))
    ]
    W, c, w, b = zip(
        *(g.network(g.width(epsilon / 3), "sigmoid", check.fmt.carrier) for g in waves), strict=True
    )
    along = np.hstack(
        [np.outer(d / s, V[0]) for d, s, V in zip(directions, spans, W, strict=True)]
    ).astype(check.fmt.carrier)
    parameters = [along, np.hstack(c), np.vstack(w), np.sum(b, axis=0)]
    program = one_layer("sigmoid")
    check.value(program, plane[:8], *parameters)
    with BALLS.precision(128):
        p = BALLS.array(plane)
        exact = sum(
            g.function(p @ (d / s)) for g, d, s in zip(waves, directions, spans, strict=True)
        )
        network = program(IN_BALLS, p, *[BALLS.array(q) for q in parameters])[:, 0]
        near = abs(network - exact) <= BALLS.array(epsilon)
    where = f"points of the plane where the network is within {epsilon} of the waves"
    check.that(bool(np.all(near)), where, near, True)


@one_hidden_layer_approximates_continuous_functions.plot(
    "One hidden layer of σ units comes within ε of a continuous function; the width is computed"
)
def _(check: Check) -> list[Panel]:
    x = np.linspace(0, 1, 801).astype(check.fmt.carrier)
    panels = []
    for kind in ("waves", "polygon", "roots"):
        wanted = target(kind, np.array([0.5, -0.5, 0.25]), np.array([0.1, 0.4, 0.8]))
        with BALLS.precision(64):
            exact = wanted.function(BALLS.array(x)).values.astype(float)
        curves = [Curve("target", x, exact, "exact")]
        for epsilon in (0.25, 0.0625):
            width = wanted.width(epsilon)
            given = [x[:, None], *wanted.network(width, "sigmoid", check.fmt.carrier)]
            y = check.backend.value(one_layer("sigmoid"), given, check.fmt.name)[:, 0]
            curves.append(Curve(f"ε = {epsilon:g}:\n{width} units", x, y))
        panels.append(Panel(f"target: {kind}", "x", "y", curves))
    return panels


@one_hidden_layer_approximates_continuous_functions.bug("affine", "one unit fewer than needed")
def _(f: Any, x: Any, W: Any, b: Any) -> Any:
    units = len(W)
    return f.affine(x, W * (np.arange(units) != units // 2)[:, None] if units > 2 else W, b)


@one_hidden_layer_approximates_continuous_functions.bug("sigmoid", "a unit that does not saturate")
def _(f: Any, z: Any) -> Any:
    return f.softplus(z)


@one_hidden_layer_approximates_continuous_functions.bug("tanh", "σ in place of tanh")
def _(f: Any, z: Any) -> Any:
    return f.sigmoid(z)


# --- fits --------------------------------------------------------------------------------------

WAVE = target("waves", np.ones(1), np.zeros(1), frequencies=[8.0])  # cos 8x on [0, 1]
GRID = np.arange(129) / 128
WAVED = np.cos(8 * GRID)
ACCURACIES = [0.5, 0.25, 0.125, 0.0625]


def predicted_width(unit: str, epsilon: float) -> int:
    """Give the width at which a layer of a unit reaches an error."""
    if unit == "relu":  # chords of cells of width 1/N: (8/N)²/8 off at most
        return ceil(8 / sqrt(8 * 15 / 16 * epsilon))
    return WAVE.width(epsilon)


def fitted_error(check: Check, unit: str, width: int) -> float:
    """Give the root mean square error of the best output weights on the backend's hidden units.

    The units have their kinks or steps side by side on [0, 1]. Singular values below 2^13 unit roundoffs are
    noise: without them no fit feeds on roundings.
    """
    W, c, _, _ = WAVE.network(width, unit, np.float64)
    if unit == "relu":
        W, c = np.ones((1, width)), -np.arange(width) / width

    def hidden(f: Any, x: Any, W: Any, c: Any) -> Any:
        z = f.affine(x, W, c)
        return z * z if unit == "square" else getattr(f, unit)(z)

    kind = check.fmt.carrier
    given = [GRID[:, None].astype(kind), W.astype(kind), c.astype(kind)]
    h = check.backend.value(hidden, given, check.fmt.name).astype(np.float64)
    design = np.hstack([h, np.ones((len(h), 1))])
    weights = np.linalg.lstsq(design, WAVED, rcond=2**13 * check.fmt.unit_roundoff)[0]
    return float(np.sqrt(np.mean((design @ weights - WAVED) ** 2)))


def trained_errors(
    check: Check, unit: str, widths: Sequence[int], seeds: int, x: Array, y: Array, *, steps: int
) -> Array:
    """Train networks from random starts, all at once, by Adam; give their errors [seeds, widths].

    Every network has units and an output of its own: ``member[i, j]`` tells that unit i feeds
    output j, and the losses share nothing.
    """
    kind, count = check.fmt.carrier, seeds * len(widths)
    owner = np.repeat(np.arange(count), np.tile(widths, seeds))
    member = (owner[:, None] == np.arange(count)).astype(kind)
    rng = np.random.default_rng(0)
    W = 8 * rng.standard_normal((1, len(owner)))
    c = -W[0] * rng.random(len(owner))  # kinks and centres lie in [0, 1]
    w = rng.standard_normal(len(owner)) / np.sqrt(np.tile(np.repeat(widths, widths), seeds))
    parameters = [p.astype(kind) for p in (W, c, w, np.zeros(count))]
    data = [x[:, None].astype(kind), y[:, None].astype(kind), member]

    def losses(f: Any, W: Any, c: Any, w: Any, b: Any, x: Any, y: Any, member: Any) -> Any:
        error = f.affine(getattr(f, unit)(f.affine(x, W, c)) * w, member, b) - y
        return (error * error).sum(0) / len(y)

    first = [np.zeros_like(p) for p in parameters]
    second = [np.zeros_like(p) for p in parameters]
    for t in range(1, steps + 1):
        slopes = check.backend.vjp(
            losses, [*parameters, *data], np.ones(count, kind), check.fmt.name, wrt=range(4)
        )
        for i, g in enumerate(slopes):
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.99 * second[i] + 0.01 * g * g
            size = np.sqrt(second[i] / (1 - 0.99**t)) + 1e-12
            parameters[i] = (parameters[i] - 0.03 * first[i] / (1 - 0.9**t) / size).astype(kind)
    final = check.backend.value(losses, [*parameters, *data], check.fmt.name)
    return np.sqrt(final).reshape(seeds, len(widths))


@claim(
    "6.4",
    "Enough units reach any error: it falls with the width of a layer of σ, tanh or ReLU, fitted "
    "or trained; units that are polynomials of a fixed degree, or linear, stay where they are.",
    functions=["affine", "identity", "relu", "sigmoid", "tanh"],
)
def wider_networks_fit_better(check: Check) -> None:
    for unit in ("sigmoid", "tanh", "relu"):
        widths = [predicted_width(unit, epsilon) for epsilon in ACCURACIES]
        errors = [fitted_error(check, unit, n) for n in widths]
        reached = bool(np.all(np.array(errors) <= ACCURACIES))
        check.that(reached, f"errors at the widths predicted for {unit}", errors, ACCURACIES)
        check.that(errors == sorted(errors, reverse=True), f"errors fall for {unit}", errors)
    for degree, unit in enumerate(("identity", "square"), start=1):
        x = GRID - 0.5
        best = np.sqrt(np.mean((np.polyval(np.polyfit(x, WAVED, degree), x) - WAVED) ** 2))
        for width in (4, 64):
            error = fitted_error(check, unit, width)
            # Columns are polynomials but for 2u of |Wx| + |c|, in a square 48u of its own size; the
            # weights are at most |y| / (2^13 u |design|): 48 √65 / 2^13 of |y| < 1/16 in all.
            check.that(error >= best - 1 / 16, f"{width} units, {unit}: error", error, best)
            check.that(error > ACCURACIES[-1], f"{width} units, {unit}: error", error)
    trained = trained_errors(check, "tanh", (1, 4, 16), 8, GRID[::4], WAVED[::4], steps=300)
    medians = np.median(trained, axis=0)
    # The median lies outside the range of 8 independent starts with a chance of 2 · 2^-8 < 1%.
    check.measured = "median errors of 8 trained starts at widths 1, 4, 16 (99% interval): " + (
        ", ".join(f"{np.median(e):.3g} ({e.min():.3g} to {e.max():.3g})" for e in trained.T)
    )
    falls = bool(np.all(medians[1:] < medians[:-1] / 2))
    check.that(falls, "median trained errors of 8 starts, widths 1, 4, 16", medians, "halved twice")


@wider_networks_fit_better.plot("Wider layers fit cos 8x better; linear and square units do not")
def _(check: Check) -> list[Panel]:
    widths, wave = 2 ** np.arange(7), (GRID[::4], WAVED[::4])

    def fits(unit: str) -> Array:
        return np.array([fitted_error(check, unit, n) for n in widths.tolist()])

    units = ("identity", "square", "sigmoid", "tanh", "relu")
    trained = trained_errors(check, "tanh", widths[:5].tolist(), 8, *wave, steps=300)
    return [
        Panel(
            "best output weights on a fixed hidden layer", "units", "root mean square error",
            [
                *(Curve(unit, widths, fits(unit), "points") for unit in units),
                Curve("bound for σ", np.array([WAVE.width(e) for e in ACCURACIES]),
                      np.array(ACCURACIES), "exact"),
            ],
            log="xy",
        ),
        Panel(
            "tanh, trained from 8 random starts", "units", "root mean square error",
            [
                Curve(label, widths[:5], np.quantile(trained, q, axis=0), "points")
                for label, q in (("worst", 1.0), ("median", 0.5), ("best", 0.0))
            ],
            log="xy",
        ),
    ]  # fmt: skip


@wider_networks_fit_better.bug("sigmoid", "identity activation")
@wider_networks_fit_better.bug("tanh", "identity activation")
@wider_networks_fit_better.bug("relu", "identity activation")
def _(f: Any, z: Any) -> Any:
    return f.identity(z)


@wider_networks_fit_better.bug("identity", "a linear unit that bends")
def _(f: Any, z: Any) -> Any:
    return f.leaky_relu(z, 0.5)


@claim(
    "6.4",
    "That a network can represent a function does not say that it learns it: two ReLUs are |x - ½| "
    "exactly, and training from 200 random starts gets there in a part of them only.",
    functions=["affine", "relu"],
)
def learning_may_fail(check: Check) -> None:
    x = GRID[::4]
    y = abs(x - 0.5)
    kind = check.fmt.carrier
    solution = [[[1.0, -1.0]], [-0.5, 0.5], [[1.0], [1.0]], [0.0]]
    given = [x[:, None].astype(kind), *(np.array(p, kind) for p in solution)]
    answers = check.backend.value(one_layer("relu"), given, check.fmt.name)
    check.equal(answers[:, 0], y, "the explicit network")
    starts = 200
    errors = trained_errors(check, "relu", (2,), starts, x, y, steps=400)
    share = float(np.mean(errors < 0.01))
    margin = float(np.sqrt(np.log(2 / 0.01) / (2 * starts)))  # Hoeffding's, at 99%
    check.measured = f"{share:.1%} of {starts} starts learn (99% interval: ± {margin:.1%})"
    check.that(share > 0, "starts that learn |x - ½|", check.measured, "some")
    check.that(share + margin < 1, "starts that learn |x - ½|", check.measured, "not all")


@learning_may_fail.bug("relu", "identity activation: no explicit solution")
def _(f: Any, z: Any) -> Any:
    return f.identity(z)


@learning_may_fail.bug("affine", "weights cut off from their gradient: nothing learns")
def _(f: Any, x: Any, W: Any, b: Any) -> Any:
    return f.custom_rule(f.affine, vjp=lambda *_: (None, None, None))(x, W, b)
