"""The names in the table of operations, and in the frameworks' own, are names of the frameworks installed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ffverify.exact.arithmetic import BALLS
from ffverify.exact.operations import OPERATIONS, TABLE

# What neither NumPy nor SciPy has.
OURS = set(
    str.split("""lgamma sigmoid rsqrt cummax cummin logcumsumexp contract inverse determinant solve cholesky
    solve_triangular lu lu_permutation lu_unpacked exponent scatter_add scatter_multiply scatter_maximum
    scatter_minimum""")
)


def test_rows_are_named_as_numpy_or_scipy_name_them() -> None:
    special = pytest.importorskip("scipy.special")
    assert {r.name for r in TABLE if not (hasattr(np, r.name) or hasattr(special, r.name))} == OURS
    assert all(isinstance(getattr(special, n), np.ufunc) for row in TABLE for n in row.scipy)


def test_scipys_functions_mean_what_the_table_says() -> None:
    special = pytest.importorskip("scipy.special")
    rows = [r for r in TABLE if r.kind == "map" and hasattr(special, (*r.scipy, r.name)[0])]
    assert {"lgamma", "sigmoid", "erf", "ndtri", "zeta", "betainc"} <= {r.name for r in rows}
    for row in rows:
        theirs = getattr(special, (*row.scipy, row.name)[0])
        if isinstance(theirs, np.ufunc):
            floats = [np.array([0.3, 0.7]) + k for k in range(theirs.nin)[::-1]]
            given = list(map(BALLS.array, floats))
            exact = [float(v) for v in theirs(*given).values]
            assert exact == [float(v) for v in OPERATIONS[row.name](*given).values]
            # SciPy promises its functions to some hundred ulps; another function is off by more than that.
            np.testing.assert_allclose(exact, theirs(*floats), rtol=1e-12)


def test_no_name_stands_twice() -> None:
    for names in (
        [r.name for r in TABLE],
        *([n for r in TABLE for n in getattr(r, f)] for f in ("scipy", "aten", "lax")),
    ):
        assert len(set(names)) == len(names)


def test_elementary_functions_have_both_arithmetics_and_a_rounding() -> None:
    for row in TABLE:
        assert (row.balls is None) == (row.numbers is None), row.name
    assert {r.name: r.units for r in TABLE if r.name in ("floor", "sqrt", "exp", "lgamma")} == {
        "floor": 0, "sqrt": 1, "exp": 8, "lgamma": 64,
    }  # fmt: skip


# --- torch ---------------------------------------------------------------------------------------


def test_atens_names_exist() -> None:
    torch = pytest.importorskip("torch")
    from ffverify.frameworks.torch.operations import ATEN, FILLS, MOVES, ON_NUMBERS

    def missing(names: set[str]) -> set[str]:
        return {
            n for n in names if not any(hasattr(o, n) for o in (torch.ops.aten, torch.ops.prims))
        }

    assert missing({*ATEN, *MOVES, *FILLS, *ON_NUMBERS}) == set()
    assert missing({"exp", "exponential_function"}) == {"exponential_function"}
    assert not ATEN.keys() & MOVES


def decomposed_by_torch() -> set[str]:
    import torch
    from torch._decomp import decomposition_table
    from torch._ops import OpOverload

    from ffverify.frameworks.torch.operations import ATEN, MOVES

    found = set()
    for operation in decomposition_table:
        if not isinstance(operation, OpOverload):
            continue
        schema = operation._schema
        name = schema.name.split("::")[-1]
        taken, given = ([str(a.type) for a in part] for part in (schema.arguments, schema.returns))
        whole = all(any("Tensor" in kind for kind in kinds) for kinds in (taken, given))
        random = torch.Tag.nondeterministic_seeded in operation.tags
        if (
            not whole
            or random
            or schema.is_mutable
            or re.match("_|fft_|bitwise_|cudnn|miopen", name)
        ):
            continue
        if name not in ATEN and name not in MOVES:
            found.add(re.sub(r"_(back|for)ward.*", "", name))
    return found


def test_the_list_of_what_torch_decomposes_is_torchs() -> None:
    pytest.importorskip("torch")
    from ffverify.frameworks.torch.operations import DECOMPOSED

    assert decomposed_by_torch() == DECOMPOSED
    assert {"addmm", "gelu", "native_layer_norm"} <= DECOMPOSED


# --- JAX -----------------------------------------------------------------------------------------


def test_laxs_names_exist() -> None:
    jax = pytest.importorskip("jax")
    from jax.extend.core import Primitive, primitives

    from ffverify.frameworks.jax.operations import LAX, MOVES

    public = [*vars(jax.lax).values(), *vars(primitives).values()]
    theirs = {p.name for p in public if isinstance(p, Primitive)}
    assert [row.name for row in TABLE if row.lax and not theirs & set(row.lax)] == []
    aliases = {n for row in TABLE for n in row.lax}
    assert LAX.keys() - aliases - theirs <= {"copy_p", "pvary"}  # of other versions
    assert MOVES - theirs == set()
    assert not LAX.keys() & MOVES
