"""A `Var` stands for an array inside a function that is being differentiated or traced.

It behaves like the `ndarray` it holds: Python's operators, NumPy's ufuncs (``np.exp(x)``) and
NumPy's functions (``np.sum(x)``) all work on it, so that plain NumPy code is differentiated
unchanged. Each of them applies a primitive; the trace that made the `Var` takes note.
"""

from __future__ import annotations

import difflib
import inspect
import operator
import sys
import weakref
from collections.abc import Callable, Iterator
from math import prod
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    from .primitive import Primitive
    from .tracing import Trace, View

# What flows through a program: an ndarray, a NumPy or Python number, or a Var.
Value = Any

NOT_GIVEN: Any = object()  # an argument for which None means something
FLOAT = np.dtype(float)
ndarray = np.ndarray

# A ufunc, or an operator that is none: `operator.pow`.
Operation = Callable[..., Any]

# Filled by numpy_functions.py, once, while the package is imported.
UFUNCS: dict[Operation, Primitive | Callable[..., Value]] = {}
REDUCTIONS: dict[Operation, Callable[..., Value]] = {}
# Of these the primitives.
PRIMITIVES: dict[Operation, Primitive] = {}
OF_PYTHONS: dict[Operation, Primitive] = {}  # of operators on Python's own numbers, which give one
ACCUMULATIONS: dict[Operation, Callable[..., Value]] = {}
ADDITIONS: dict[Operation, Callable[..., None]] = {}  # ``ufunc.at``
# SciPy's special functions, by name: SciPy need not be installed, and is not imported for them.
SPECIAL: dict[str, Callable[..., Value]] = {}
# What SciPy's functions are called that are plain Python, and so never ask a `Var`, but have namesakes here.
NAMESAKES: set[str] = set()
FUNCTIONS: dict[Callable[..., Any], Callable[..., Value]] = {}
# Types that take over where one of them meets a `Var`: complex values made of `Var`s, and their ufuncs.
BEYOND: set[type] = set()
COMPLEX: dict[Operation, Callable[..., Any]] = {}


def implements(
    *functions: Callable[..., Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as the one that serves these NumPy functions on `Var`s."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for numpy_function in functions:
            FUNCTIONS[numpy_function] = function
        return function

    return register


def _is_foreign(value: Any) -> bool:
    """Whether an operand is of a library that serves NumPy's ufuncs itself, as xarray's arrays do."""
    numpys = ndarray.__array_ufunc__
    return getattr(type(value), "__array_ufunc__", numpys) not in (numpys, Var.__array_ufunc__)


def as_operand(value: Any) -> Any:
    """Read a list of numbers as the array that NumPy makes of it."""
    return np.asarray(value) if type(value) in (list, tuple) else value


def as_array(value: Any) -> Any:
    """Read lists and Python's numbers as arrays, which have a dtype."""
    plain = type(value) is not Var and not isinstance(value, ndarray | np.generic)
    return np.asarray(value) if plain else value


def _beside(x: Var, operation: Operation, other: Any) -> Any:
    """Read the other operand of an operator.

    Python's numbers have no operators with lists, and NumPy's no product: of a list that is a repetition.
    """
    number = type(other) in (list, tuple) and not isinstance(innermost(x), ndarray)
    if _is_foreign(other) or (number and (operation is np.multiply or _are_pythons(x))):
        return NotImplemented
    return as_operand(other)


def _is_complex(value: Any) -> bool:
    kind = type(value)
    return value.dtype.kind == "c" if kind is ndarray else kind in COMPLEX_NUMBERS


def _binary(operation: Operation) -> Callable[[Any, Any], Any]:
    def method(a: Any, b: Any) -> Any:
        if type(b) is not Var:
            if type(b) not in USUAL:
                b = _beside(a, operation, b)
                if b is NotImplemented:
                    return b
            if _is_complex(b) and operation in COMPLEX:
                return COMPLEX[operation](a, b)
        primitive = PRIMITIVES.get(operation)
        if type(a.value) is not ndarray and _are_pythons(a, b):
            primitive = OF_PYTHONS.get(operation, primitive)
        return a.owner.apply(primitive, (a, b), {}) if primitive else UFUNCS[operation](a, b)

    return method


def _reflected(operation: Operation) -> Callable[[Any, Any], Any]:
    def method(b: Any, a: Any) -> Any:
        if type(a) not in USUAL:
            a = _beside(b, operation, a)
            if a is NotImplemented:
                return a
        if _is_complex(a) and operation in COMPLEX:
            return COMPLEX[operation](a, b)
        primitive = PRIMITIVES.get(operation)
        if type(b.value) is not ndarray and _are_pythons(a, b):
            primitive = OF_PYTHONS.get(operation, primitive)
        return b.owner.apply(primitive, (a, b), {}) if primitive else UFUNCS[operation](a, b)

    return method


def _unary(ufunc: np.ufunc) -> Callable[[Any], Any]:
    return lambda a: a.owner.apply((OF_PYTHONS if _are_pythons(a) else PRIMITIVES)[ufunc], (a,), {})


def _are_pythons(*operands: Any) -> bool:
    return all(type(innermost(x)) in PYTHONS for x in operands)


def _inplace(operation: Operation) -> Callable[[Any, Any], Any]:
    binary = _binary(operation)

    def method(self: Var, other: Any) -> Any:
        new = binary(self, other)
        if new is NotImplemented or not isinstance(innermost(self), ndarray):
            return new  # to a number Python gives a new name
        return _put_into(self, new, "an augmented assignment")

    return method


def _put_into(whole: Any, new: Value, what: str) -> Var:
    """Write a result over the whole of a traced array, and return that."""
    if type(whole) is not Var:
        raise TypeError(
            f"{what} would write into an existing array while it is being differentiated: write "
            "`a = a + b` instead of `a += b`, and give results names instead of out="
        )
    if shape_of(new) != whole.shape:
        raise ValueError(f"{what} of shape {shape_of(new)} to an array of shape {whole.shape}")
    if not np.can_cast(dtype_of(new), whole.dtype, "same_kind"):
        raise TypeError(f"{what} of {dtype_of(new)} to an array of {whole.dtype}")
    new = FUNCTIONS[np.reshape](
        FUNCTIONS[ndarray.astype](new, whole.dtype, copy=False), whole.shape
    )
    if np.shape(new) and innermost(new).strides != innermost(whole).strides:  # the array's own stay
        new = FUNCTIONS[ndarray.__setitem__](whole, ..., new)
    write(whole, new)
    return whole


def _served(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Let what serves a NumPy function do so, given its arguments by NumPy's places and names."""
    serve = FUNCTIONS.get(function)
    if serve is None:
        _unsupported(function.__name__, [known.__name__ for known in FUNCTIONS])
    out = kwargs.pop("out", None)
    if not args:
        args, kwargs = _by_place(function, args, kwargs)
    try:
        y = serve(*args, **kwargs)
    except TypeError as error:
        if not _is_of_the_call(error):
            raise
        args, kwargs = _by_place(function, args, kwargs)  # what has another name here
        try:
            y = serve(*args, **kwargs)
        except TypeError as last:
            if not _is_of_the_call(last):
                raise
            raise TypeError(
                f"numpy.{function.__name__}: an argument that is not supported on a traced value: {error}"
            ) from None
    return y if out is None else _put_into(out, y, f"numpy.{function.__name__}(..., out=)")


def _is_of_the_call(error: TypeError) -> bool:
    """Whether it was raised by calling a function, not within it."""
    here = error.__traceback__
    return here is not None and here.tb_next is None


def _by_place(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):  # not NumPy's arguments; or some of NumPy's have no signature
        return args, kwargs
    return bound.args, bound.kwargs


def _method(name: str) -> Callable[..., Any]:
    """Make the method ``x.name(...)`` of the function ``np.name(x, ...)``."""
    function = getattr(np, name)

    def method(self: Var, *args: Any, **kwargs: Any) -> Any:
        return _served(function, (self, *args), kwargs)

    method.__name__ = name
    method.__doc__ = f"As `numpy.{name}`."
    return method


class Shaped:
    """What an array has by its shape alone."""

    __slots__ = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array it stands for."""
        raise NotImplementedError

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def T(self) -> Any:
        """As `ndarray.T`."""
        return np.transpose(self)  # type: ignore[call-overload]  # which it serves

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a value without axes")
        return self.shape[0]

    def reshape(self, *shape: Any, **options: Any) -> Any:
        """As `ndarray.reshape`."""
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, **options)  # type: ignore[call-overload]  # as T


class Var(Shaped):
    """A value under differentiation; made by `grad`, `jvp`, `trace`, ..., never by hand.

    Attributes
    ----------
    value : what the primal program computed here: an array or number, or, when derivatives are
        nested, a `Var` of the enclosing derivative.
    owner : the trace, that is, the derivative or graph, which this `Var` belongs to.
    tangent : its tangent x_dot (forward mode only).
    index : its place on the trace's tape (recording traces only).
    base, views : where there are any, of which other `Var` it is a view, by which primitive and
        parameters; weak references to its own views. Where one is written into, all stand for new values.
    """

    __slots__ = ("__weakref__", "base", "index", "owner", "tangent", "value", "views")

    value: Value
    owner: Trace
    tangent: Value
    index: int
    base: tuple[Var, Primitive | View, dict[str, Any]]
    views: list[weakref.ref[Var]]

    def become(self, value: Value) -> None:
        """Stand for another value from now on, as an array does that is written into."""
        var = value if type(value) is Var else self.owner.constant(value)
        self.value, self.owner = var.value, var.owner
        for name in ("index", "tangent"):
            if hasattr(var, name):
                setattr(self, name, getattr(var, name))

    def alias(self) -> Var:
        """Return a `Var` of the same value that stays as it is when this one is written into."""
        var = Var()
        var.become(self)
        return var

    # NumPy's protocols -----------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        if len(args) > 1 and type(args[-1]) in BEYOND:
            return NotImplemented
        if method == "__call__" and not kwargs:
            if len(args) == 2:
                a, b = args
                other = a if type(b) is Var else b
                if type(other) is not ndarray or other.dtype is not FLOAT:  # not the usual case
                    args = a, b = as_operand(a), as_operand(b)
                    if (_is_complex(a) or _is_complex(b)) and ufunc in COMPLEX:
                        return COMPLEX[ufunc](a, b)
            primitive = PRIMITIVES.get(ufunc)
            if primitive is not None:
                return self.owner.apply(primitive, args, {})
            if ufunc in UFUNCS:
                return UFUNCS[ufunc](*args)
        _add_scipy(ufunc)
        if method == "outer" and ufunc in UFUNCS:
            a, b = map(as_array, args)  # of which NumPy makes arrays, with a dtype
            ones = (1,) * len(shape_of(b))
            return UFUNCS[ufunc](FUNCTIONS[np.reshape](a, (*shape_of(a), *ones)), b)
        tables: dict[str, dict[Operation, Any]] = {
            "__call__": UFUNCS, "reduce": REDUCTIONS, "accumulate": ACCUMULATIONS, "at": ADDITIONS,
        }  # fmt: skip
        table = tables.get(method, {})
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        if ufunc not in table:
            _unsupported(name, [known.__name__ for known in table])
        outs = [out for out in kwargs.pop("out", ()) if out is not None]
        mask = kwargs.pop("where", True) if method == "__call__" else True
        if method == "__call__" and kwargs.get("casting") == "same_kind":  # NumPy's own
            del kwargs["casting"]
        if method == "__call__" and np.dtype(kwargs.get("dtype", int)).kind == "f":
            dtype, casting = kwargs.pop("dtype"), kwargs.pop("casting", "same_kind")
            cast = FUNCTIONS[ndarray.astype]  # NumPy casts operands, and computes in that
            args = tuple(cast(as_operand(a), dtype, casting=casting, copy=False) for a in args)
        if (kwargs and method == "__call__") or (mask is not True and not outs) or len(outs) > 1:
            given = ", ".join(f"{option}=" for option in kwargs) or ("out=" if outs else "where=")
            raise TypeError(
                f"numpy.{name}: {given} has no rule: cast with astype, choose with np.where, and give "
                "results names"
            )
        y = table[ufunc](*args, **kwargs)
        if not outs:
            return y
        if mask is not True:
            y = FUNCTIONS[np.where](mask, y, outs[0])
        return _put_into(outs[0], y, f"numpy.{name}(..., out=) or an augmented assignment")

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if len(types) > 1 and not BEYOND.isdisjoint(types):
            return NotImplemented
        if func in CREATING:  # which NumPy lets be told ``like=x``
            return self.owner.constant(func(*args, **kwargs))
        return _served(func, args, kwargs)

    def __array__(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        called, ours = (
            _called_of_scipy(inspect.currentframe()),
            "ffverify.reference.scipy_functions",
        )
        if called in NAMESAKES:
            raise TypeError(
                f"{called} makes a plain array of a traced value, whose derivative would be lost: write "
                f"{ours}.{called.rpartition('.')[2]}, which takes the same arguments, plain arrays too"
            )
        raise TypeError(
            "a traced value cannot become a plain array: its derivative would be lost. "
            "Use np.stack, np.concatenate or np.array([...], like=x) to put values together"
            if not called
            else f"{called} makes a plain array of a traced value, whose derivative would be lost: write it "
            f"with NumPy's functions; namesakes in {ours} have {', '.join(sorted(NAMESAKES))}"
        )

    @property  # type: ignore[misc]  # a class is read-only here
    def __class__(self) -> Any:
        """The class of the array or number it stands for, which `isinstance` asks for."""
        return type(innermost(self))

    # What an array is asked for --------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array it stands for."""
        return shape_of(self)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the array it stands for."""
        return dtype_of(self)

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the array it stands for."""
        return self.size * self.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        """Steps in memory of the array it stands for, in bytes."""
        return np.asarray(innermost(self)).strides

    def __array_namespace__(self, **_options: Any) -> Any:
        """NumPy, whose functions it is served by (array API standard)."""
        return np

    @property
    def real(self) -> Any:
        """Itself."""
        return self

    @property
    def imag(self) -> Any:
        """Zeros."""
        return FUNCTIONS[np.imag](self)

    @property
    def mT(self) -> Any:
        """As `ndarray.mT`: the last two axes exchanged."""
        return FUNCTIONS[np.swapaxes](self, -1, -2)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        return FUNCTIONS[ndarray.__getitem__](self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(innermost(self), ndarray):
            raise TypeError(
                "a number does not support item assignment: it has no memory of its own"
            )
        write(self, FUNCTIONS[np.ndarray.__setitem__](self, index, value))

    def __contains__(self, value: Any) -> bool:
        return bool((self == value).any())

    def __bool__(self) -> bool:
        return bool(concrete(self))

    def _number(self, kind: str) -> NoReturn:
        raise TypeError(
            f"a traced value of shape {self.shape} cannot become a Python {kind}: its derivative "
            "would be lost. Keep it as it is; NumPy functions accept it"
        )

    def __float__(self) -> float:
        self._number("float")

    def __int__(self) -> int:
        self._number("int")

    def __index__(self) -> int:  # noqa: PLE0305  # it always raises
        self._number("int")

    def item(self) -> float:
        """Refused: the derivative would be lost."""
        self._number("number")

    tolist = item

    def __round__(self, decimals: int | None = None) -> Any:
        if isinstance(innermost(self), ndarray):
            raise TypeError("round() is of numbers: of an array write np.round(x, decimals)")
        if decimals is None:
            self._number("int")
        return FUNCTIONS[np.round](self, decimals)

    def __repr__(self) -> str:
        return f"Var({self.value!r})"

    def __format__(self, form: str) -> str:
        return format(concrete(self), form) if form else str(self)

    def astype(self, dtype: Any, *layout: Any, **options: Any) -> Any:
        """As `ndarray.astype`; a cast to integers or booleans ends the derivative."""
        return FUNCTIONS[np.ndarray.astype](self, dtype, *layout, **options)

    def transpose(self, *axes: Any) -> Any:
        """As `ndarray.transpose`."""
        return FUNCTIONS[np.transpose](self, axes[0] if len(axes) == 1 else axes or None)

    def clip(self, min: Any = None, max: Any = None, **options: Any) -> Any:  # noqa: A002  # NumPy's
        """As `ndarray.clip`, of which either bound may be left out."""
        return _served(np.clip, (self, min, max), options)

    def flatten(self, order: str = "C") -> Any:
        """As `ndarray.flatten`."""
        return FUNCTIONS[np.ravel](self, order).copy()

    def fill(self, value: Any) -> None:
        """As `ndarray.fill`."""
        self[...] = value

    def sort(self, axis: int = -1, **options: Any) -> None:
        """As `ndarray.sort`, which writes into the array."""
        self[...] = FUNCTIONS[np.sort](self, operator.index(axis), **options)

    def partition(self, kth: Any, axis: int = -1, **options: Any) -> None:
        """As `ndarray.partition`, which writes into the array."""
        self[...] = FUNCTIONS[np.partition](self, kth, operator.index(axis), **options)

    def compress(self, condition: Any, axis: int | None = None) -> Any:
        """As `ndarray.compress`."""
        return FUNCTIONS[np.compress](condition, self, axis)

    def copy(self, order: str = "C") -> Any:
        """As `ndarray.copy`; the copy of a number is one."""
        if not isinstance(innermost(self), ndarray):
            return +self
        return FUNCTIONS[np.copy](self, order)

    def conj(self) -> Any:
        """Itself, as `ndarray.conj` of real numbers."""
        return self

    conjugate = conj

    # Operators -------------------------------------------------------------------------------

    __hash__ = object.__hash__
    __add__, __radd__ = _binary(np.add), _reflected(np.add)
    __sub__, __rsub__ = _binary(np.subtract), _reflected(np.subtract)
    __mul__, __rmul__ = _binary(np.multiply), _reflected(np.multiply)
    __truediv__, __rtruediv__ = _binary(np.divide), _reflected(np.divide)
    __mod__, __rmod__ = _binary(np.remainder), _reflected(np.remainder)
    __floordiv__, __rfloordiv__ = _binary(np.floor_divide), _reflected(np.floor_divide)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    __pow__, __rpow__ = _binary(operator.pow), _reflected(operator.pow)
    __matmul__, __rmatmul__ = _binary(np.matmul), _reflected(np.matmul)
    __iadd__, __isub__, __imul__ = map(_inplace, (np.add, np.subtract, np.multiply))
    __itruediv__, __imod__ = _inplace(np.divide), _inplace(np.remainder)
    __ifloordiv__, __ipow__ = _inplace(np.floor_divide), _inplace(operator.pow)
    __imatmul__ = _inplace(np.matmul)
    __and__, __rand__ = _binary(np.bitwise_and), _reflected(np.bitwise_and)
    __or__, __ror__ = _binary(np.bitwise_or), _reflected(np.bitwise_or)
    __xor__, __rxor__ = _binary(np.bitwise_xor), _reflected(np.bitwise_xor)
    __neg__, __pos__, __abs__ = _unary(np.negative), _unary(np.positive), _unary(np.absolute)
    __invert__ = _unary(np.invert)
    __lt__, __le__ = _binary(np.less), _binary(np.less_equal)
    __gt__, __ge__ = _binary(np.greater), _binary(np.greater_equal)
    __eq__: Callable[[Any, Any], Any] = _binary(np.equal)
    __ne__: Callable[[Any, Any], Any] = _binary(np.not_equal)

    sum, prod, mean, var, std = map(_method, ("sum", "prod", "mean", "var", "std"))
    max, min, argmax, argmin = map(_method, ("max", "min", "argmax", "argmin"))
    all, any, cumsum = map(_method, ("all", "any", "cumsum"))
    ravel, squeeze, swapaxes = map(_method, ("ravel", "squeeze", "swapaxes"))
    dot, take, repeat, diagonal = map(_method, ("dot", "take", "repeat", "diagonal"))
    argsort, cumprod, trace = map(_method, ("argsort", "cumprod", "trace"))
    round, nonzero, searchsorted = map(_method, ("round", "nonzero", "searchsorted"))
    argpartition, put = _method("argpartition"), _method("put")

    def __copy__(self) -> Any:
        return self.copy("K")

    def __deepcopy__(self, _memo: Any) -> Any:
        return self.copy("K")


def _absent(name: str) -> property:
    """Make what says that an attribute of arrays is none of traced values."""

    def absent(_self: Var) -> NoReturn:
        raise AttributeError(
            f"a traced value has no .{name}: index it, use its other methods or NumPy's functions "
            "(x.ravel()[i] = v for x.flat[i] = v)"
        )

    return property(absent)


# One by one: beside a `__getattr__` every attribute that there is takes four times as long to read.
for _name in dir(ndarray):
    if not (_name.startswith("_") or hasattr(Var, _name)):
        setattr(Var, _name, _absent(_name))

CREATING: frozenset[Callable[..., Any]] = frozenset(
    {np.zeros, np.ones, np.empty, np.full, np.eye, np.identity, np.arange}
)
USUAL = frozenset({Var, ndarray, float, int})  # operands
PYTHONS = frozenset({float, int, bool})  # numbers without a dtype
COMPLEX_NUMBERS = frozenset({complex, np.complex128})


def write(var: Var, value: Value) -> None:
    """Let a `Var`, what it is a view of, and all other views of that stand for what was written."""
    while hasattr(var, "base"):
        whole, primitive, params = var.base
        assert primitive.written is not None  # noqa: S101  # or it would be no view
        var, value = whole, primitive.written(whole, value, **params)
    var.become(value)
    _refresh(var)


def _refresh(var: Var) -> None:
    for reference in list(getattr(var, "views", ())):
        view = reference()
        if view is not None:
            _, primitive, params = view.base
            view.become(primitive(var, **params))
            _refresh(view)


def innermost(value: Value) -> Value:
    """Return the array or number at the bottom of nested `Var`s."""
    while type(value) is Var:
        value = value.value
    return value


def concrete(value: Value) -> Value:
    """Return the array or number that a Python branch or a shape is about to depend on.

    Every trace on the way is told, because what it records holds for this branch only.
    """
    while type(value) is Var:
        value.owner.on_branch(value)
        value = value.value
    return value


def shape_of(value: Value) -> tuple[int, ...]:
    """Return the shape of an array, number or `Var`."""
    while type(value) is Var:
        value = value.value
    if type(value) is ndarray:  # the usual case, quickly
        return value.shape  # type: ignore[no-any-return]  # as a Value it is Any
    if type(value) is float:
        return ()
    shape: tuple[int, ...] | None = getattr(value, "shape", None)
    return np.shape(value) if shape is None else shape


def dtype_of(value: Value) -> np.dtype[Any]:
    """Return the dtype of an array, number or `Var`."""
    while type(value) is Var:
        value = value.value
    if type(value) is ndarray:  # the usual case, quickly
        return value.dtype  # type: ignore[no-any-return]  # as a Value it is Any
    if type(value) is float:
        return FLOAT
    dtype: np.dtype[Any] | None = getattr(value, "dtype", None)
    return np.asarray(value).dtype if dtype is None else dtype


def _called_of_scipy(frame: FrameType | None) -> str:
    """Name the function of SciPy's that a program called and that came to this frame, if one did."""
    name, modules = "", (__name__, "numpy.", "scipy.")
    while frame is not None and (module := str(frame.f_globals.get("__name__"))).startswith(
        modules
    ):
        package, _, within = module.partition(".")
        if package == "scipy":
            name = f"scipy.{within.partition('.')[0]}.{frame.f_code.co_name}"
        frame = frame.f_back
    return name


def _add_scipy(ufunc: np.ufunc) -> None:
    """Serve a ufunc of scipy.special from now on, if it is one that has a rule here."""
    scipy_special = sys.modules.get("scipy.special")
    name = ufunc.__name__
    if name in SPECIAL and getattr(scipy_special, name, None) is ufunc:
        UFUNCS[ufunc] = SPECIAL[name]


# What to write instead of functions without a rule, by meaning.
INSTEAD = {
    "choose": "select, take", "cumulative_sum": "cumsum",
    "divide_no_nan": "where", "einsum_path": "einsum", "frexp": "floor, log2", "geomspace": "exp, linspace",
    "histogram2d": "bincount", "histogramdd": "bincount", "ldexp": "exp2", "lexsort": "argsort",
    "logspace": "power, linspace",
    "matrix_rank": "linalg.svd", "nancumprod": "where, cumprod", "nancumsum": "nan_to_num, cumsum",
    "nanmedian": "median, where", "nanpercentile": "percentile, where", "nanquantile": "quantile, where",
    "piecewise": "where, select", "polyadd": "add", "polyfit": "linalg.pinv", "polymul": "convolve",
    "polysub": "subtract", "tensorinv": "linalg.inv, reshape", "tensorsolve": "linalg.solve, reshape",
    "trim_zeros": "compress", "unique": "sort", "unwrap": "diff, where",
}  # fmt: skip


def _unsupported(name: str, known: list[str]) -> NoReturn:
    near = INSTEAD.get(name) or ", ".join(
        difflib.get_close_matches(name, sorted(set(known)), n=3, cutoff=0.8)
    )
    hint = f" What has one: {near}." if near else ""
    raise TypeError(
        f"numpy.{name} has no derivative rule here.{hint} "
        "Write it with supported functions, or attach a rule with custom_rule."
    )
