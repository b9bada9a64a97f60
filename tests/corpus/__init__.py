"""The detection corpora: buggy functions with correct twins. ``ROWS`` has them all, by name.

The ``first`` was there while gradcheck was written; the ``unseen`` was written afterwards, without a look
at either, and gradcheck was mended by what it showed; the ``blind`` was written after that, without a look
at gradcheck, and frozen before its first run. That run (3 seeds, 12 examples) found 240 of 243 with the
expected verdict and accused 3 of 243 twins: one row of either kind, for which gradcheck was mended.
The ``fresh`` was written after that, again without a look at gradcheck, and frozen before its first run,
which found 189 of 207 and accused 0 of 207. Of the six rows that it missed gradcheck was mended for three,
one had forgotten ``strict``, one function had no value and is left out, and one was taken for the backward
error of a sum in float16 (``float16-accumulator``), until such sums were held to accumulators in float32.
The ``sealed`` was written after that, without a look at gradcheck, and frozen before its first run,
which found 142 of 150 and accused 1 of 150: three rows missed (two of them wrong at ties only), one twin
accused within a rounding error of a kink.
The ``reserve`` and the ``closing`` (40 rows each) were written after that, at once and apart, without a look
at gradcheck, and frozen before their first run. Of the ``reserve`` it found 120 of 120 and accused 6 of 120:
two twins under ``strict``, which lose ten ulps where strict allows five. Of the ``closing``, run after two
mends that no corpus had shown, it found 120 of 120 and accused 0 of 120. They share one bug, that of the
squared ReLU in bfloat16, which both authors thought of: 79 cases, not 80.
The ``independent`` was written after that, without a look at gradcheck, and frozen before its first run,
which found 147 of 153 and accused 0 of 153. Both rows that it missed were told: positions that pass through
bfloat16 as imprecise (a cast is a rounding), a value that loses digits as a warning, which is an error now.
"""

from importlib import import_module

from .rows import ROWS, Box, Case, Row

_MODULES = {
    "first": ("elementwise_rows", "mode_rows", "precision_rows", "structure_rows"),
    "unseen": (
        "unseen_elementwise_rows", "unseen_layer_rows", "unseen_native_rows", "unseen_structure_rows",
    ),
    "blind": (
        "blind_elementwise_rows", "blind_structure_rows", "blind_torch_rows", "blind_jax_rows",
    ),
    "fresh": (
        "fresh_formula_rows", "fresh_layer_rows", "fresh_torch_rows", "fresh_jax_rows",
    ),
    "sealed": ("sealed_numpy_rows", "sealed_matrix_rows", "sealed_framework_rows"),
    "reserve": ("reserve_numpy_rows", "reserve_torch_rows", "reserve_jax_rows"),
    "closing": ("closing_numpy_rows", "closing_torch_rows", "closing_jax_rows"),
    "independent": (
        "independent_numpy_rows", "independent_torch_rows", "independent_jax_rows",
    ),
}  # fmt: skip
CORPORA: dict[str, list[Row]] = {}
for _name, _modules in _MODULES.items():
    _before = len(ROWS)
    for _module in _modules:
        import_module(f".{_module}", __name__)  # declares its rows
    CORPORA[_name] = list(ROWS.values())[_before:]

__all__ = ["CORPORA", "ROWS", "Box", "Case", "Row"]
