"""``ffverify gradcheck package.module:function --input 'x: float32[3,4] in [-5, 5]'``.

Exit codes: 0 the gradient is right, 1 it is not, or nothing could be judged, 2 a word of the call is wrong.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from types import CodeType
from typing import Any

import click

from ffverify.conformance.backends import load
from ffverify.errors import UnavailableError
from ffverify.exact import formats
from ffverify.frameworks.arguments import signature_of
from ffverify.frameworks.declared import data
from ffverify.strategies import arrays, booleans, integers

from . import options
from .printing import print_and_exit, say
from .progress import progress
from .reports.checked import figure_of, result_of
from .reports.files import Files
from .reports.records import Document, Entry, run_record

_INPUT = re.compile(
    r"\s*(?:(?P<name>\w+)\s*:)?\s*(?:(?P<data>data)\s+)?(?P<dtype>\w+)\s*(?:\[(?P<shape>[\d,\s]*)\])?"
    r"(?:\s+in\s+\[(?P<low>[^,\]]+),(?P<high>[^,\]]+)\])?\s*",
    re.ASCII,
)
_MOST = 10**7  # numbers of an input: more would take hours
_INTEGERS = ("int64", "int32", "int16", "int8", "uint8")


def parse_input(
    text: str, framework_name: str, device: str | None = None
) -> tuple[str | None, Any]:
    """Turn ``'x: float32[3,4] in [-5, 5]'`` into a name, if there is one, and a strategy.

    Raises
    ------
    ValueError
        If the text does not read so.
    """
    match = _INPUT.fullmatch(text)
    if match is None:
        raise ValueError(
            f"--input {text!r} cannot be read: write it like 'x: float32[3,4] in [-5, 5]', "
            "'y: int64[3] in [0, 9]', 'mask: bool[3]' or 't: data float32[3]'"
        )
    shape = tuple(int(n) for n in (match["shape"] or "").split(",") if n.strip())
    if math.prod(shape) > _MOST:
        raise ValueError(f"--input {text!r} has more than {_MOST:,} numbers: give a smaller shape")
    low, high = (_number(match[end], text) for end in ("low", "high"))
    dtype = match["dtype"]
    drawn: Any
    if dtype == "bool":
        drawn = booleans(shape, framework=framework_name, device=device)
    elif dtype in _INTEGERS:
        whole = low is not None and high is not None and low.is_integer() and high.is_integer()
        if low is None or high is None or not whole or low > high:
            raise ValueError(f"--input {text!r}: integers need a range of integers, as in [0, 9]")
        drawn = integers(dtype, shape, int(low), int(high), framework=framework_name, device=device)
    elif dtype in formats.FORMATS:
        drawn = arrays(
            dtype, shape, min_value=low, max_value=high, framework=framework_name, device=device
        )
    else:
        known = [*formats.FORMATS, *_INTEGERS, "bool"]
        meant = _meant(dtype, known)
        raise ValueError(f"--input {text!r}: dtype {dtype!r} is none of {', '.join(known)}{meant}")
    return match["name"], data(drawn) if match["data"] else drawn


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f": did you mean {close[0]!r}?" if close else ""


def bound(
    fn: Callable[..., Any], named: Sequence[tuple[str | None, Any]], more: Collection[str]
) -> Any:
    """Give inputs to the parameters of a function: by name where they have names, else in order.

    Raises
    ------
    ValueError
        If a name is no parameter's, is given twice, or one is missing; all of it said at once.
    """
    values = [v for _, v in named]
    signature = signature_of(fn)
    if signature is None or all(name is None for name, _ in named):
        return values
    parameters = list(signature.parameters.values())
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        return values  # it takes anything: names are for the reader
    free = iter([n for n in names if n not in {name for name, _ in named} and n not in more])
    given: dict[str, Any] = {}
    amiss = []
    for name, value in named:
        key = name or next(free, None)
        if key is None or key not in names:
            amiss.append(f"it has no {key or 'further parameter'}{_meant(key or '', names)}")
        elif key in given:
            amiss.append(f"{key} is given twice")
        else:
            given[key] = value
    amiss += [f"it has no {key}{_meant(key, names)}" for key in more if key not in names]
    needed = [p.name for p in parameters if p.default is p.empty and p.name in names]
    missing = [n for n in needed if n not in given and n not in more]
    amiss += (
        [f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"] if missing else []
    )
    if amiss:
        shown = getattr(fn, "__name__", type(fn).__name__)
        raise ValueError(f"--input: {shown}({', '.join(names)}): {'; '.join(dict.fromkeys(amiss))}")
    if any(p.kind is p.POSITIONAL_ONLY for p in parameters if p.name in given):
        return [given[n] for n in names if n in given]
    return given


def _number(text: str | None, whole: str) -> float | None:
    if text is None:
        return None
    try:
        return float(text.encode("ascii"))
    except ValueError as error:
        raise ValueError(f"--input {whole!r}: {text.strip()!r} is not a number") from error


def _module(name: str, path: str) -> Any:
    """Import a user's module, whatever it does then.

    Raises
    ------
    ValueError
        If it cannot be imported.
    """
    sys.path.insert(0, "")  # as `python -m` does: the user's module lies where the command is given
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        lines = str(error).strip().splitlines()
        said = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        did = "exits" if isinstance(error, SystemExit) else "raises"
        why = (
            str(error)
            if isinstance(error, ImportError)
            else f"{name} {did} when it is imported: {said}"
        )
        raise ValueError(f"{path!r} cannot be imported: {why}") from error
    finally:
        with contextlib.suppress(ValueError):  # the module may have changed it
            sys.path.remove("")


def load_function(path: str) -> Callable[..., Any]:
    """Import ``package.module:function``; a call, as in ``torch.nn:Softplus()``, is allowed.

    Raises
    ------
    ValueError
        If there is no such module or name in it, or what it calls raises.
    TypeError
        If it is not callable.
    """
    module_name, colon, name = path.partition(":")
    if not colon or not name:
        raise ValueError(f"{path!r} names no function: write package.module:function")
    called = name.endswith("()")
    found: Any = _module(module_name, path)
    for part in name.removesuffix("()").split("."):
        holder, found = found, getattr(found, part, None)
        if found is None:
            where = getattr(holder, "__name__", type(holder).__name__)
            raise ValueError(
                f"{path!r} cannot be imported: {where} has no {part!r}{_meant(part, dir(holder))}"
            )
    try:
        found = found() if called else found
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
        raise ValueError(f"{path!r} raises {said}") from error
    if not callable(found):
        raise TypeError(f"{path!r} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]  # checked above


def _keywords(pairs: tuple[str, ...]) -> dict[str, Any]:
    out = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not name.isidentifier():
            raise ValueError(f"--set {pair!r:.60}: write name=value")
        try:
            out[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            if not re.fullmatch(r"[A-Za-z][\w.-]*", value):  # else it is a word, as in mode=mean
                raise ValueError(
                    f"--set {pair!r:.60}: write a number, a word, or any literal of Python"
                ) from error
            out[name] = value
    return out


def _check_device(device: str | None, framework_name: str) -> None:
    if device is None:
        return
    if framework_name != "torch":
        raise ValueError(
            f"--device {device!r} is for torch, and this function takes {framework_name}'s arrays"
        )
    if not device:
        raise ValueError("--device names none: write one as torch does, as in cuda:0")
    load(f"torch:{device}")  # which says what is amiss


@click.command()
@click.argument("function", metavar="PACKAGE.MODULE:FUNCTION")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="SPEC",
    help="One input, by name or in order; repeatable: 'x: float32[3,4] in [-5, 5]', 'y: int64[3] in [0, 9]', "
    "'mask: bool[3]', 't: data float32[3]'.",
)
@click.option(
    "--framework",
    "framework_name",
    type=click.Choice(["numpy", "torch", "jax"]),
    help="Whose arrays the function takes; by default the framework of its module.",
)
@click.option("--device", metavar="NAME", help="For torch: where the inputs are, as in cuda.")
@click.option(
    "--set",
    "keywords",
    multiple=True,
    metavar="NAME=VALUE",
    help="A further keyword argument of the function; repeatable.",
)
@click.option(
    "--truth",
    metavar="PACKAGE.MODULE:FUNCTION",
    help="A plain NumPy function taken as the definition, or a name of the catalogue.",
)
@click.option(
    "--vjp", metavar="PACKAGE.MODULE:FUNCTION", help="The function's own VJP to be checked."
)
@click.option(
    "--jvp", metavar="PACKAGE.MODULE:FUNCTION", help="The function's own JVP to be checked."
)
@click.option(
    "--gradient",
    metavar="PACKAGE.MODULE:FUNCTION",
    help="The gradient of the function, a number or a sum of losses, to be checked.",
)
@click.option(
    "--timeout",
    type=options.Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="For one call of the function; 10 by default.",
)
@click.option(
    "--time-limit",
    type=options.Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="After which no new inputs are drawn.",
)
@click.option(
    "--order",
    type=options.Whole(1, 2),
    default=1,
    show_default=True,
    help="2 checks second derivatives in all four nestings too.",
)
@click.option("--strict", is_flag=True, help="Small and only relative losses of digits are errors.")
@click.option(
    "--max-examples",
    type=options.Whole(1),
    default=200,
    show_default=True,
    metavar="N",
    help="How many inputs to draw.",
)
@options.SEED
@options.files
def gradcheck(
    function: str,
    inputs: tuple[str, ...],
    framework_name: str | None,
    device: str | None,
    keywords: tuple[str, ...],
    truth: str | None,
    vjp: str | None,
    jvp: str | None,
    gradient: str | None,
    timeout: float | None,
    time_limit: float | None,
    order: int,
    strict: bool,
    max_examples: int,
    seed: int,
    files: Files,
) -> None:
    """Check the derivatives of a function on drawn inputs."""
    from ffverify.gradients.gradcheck import gradcheck as check

    try:
        document = Document(run_record("gradcheck", seed=seed))
        files.begin(document)
        fn = load_function(function)
        chosen = framework_name or _framework_of(function, fn)
        _check_device(device, chosen)
        options = _keywords(keywords)
        named = [parse_input(text, chosen, device) for text in inputs]
        drawn = bound(fn, named, options)
        paths = {"vjp": vjp, "jvp": jvp, "gradient": gradient}
        rules: dict[str, Any] = {n: load_function(p) for n, p in paths.items() if p is not None}
        definition = load_function(truth) if truth is not None and ":" in truth else truth
        called = _with_keywords(fn, options) if options else fn
        with progress(max_examples, "inputs") as advance:
            report = check(
                called, drawn, truth=definition, order=order, strict=strict,
                max_examples=max_examples, seed=seed, timeout=timeout, time_limit=time_limit,
                progress=advance, raise_exception=False, **rules,
            )  # fmt: skip
    except (TypeError, ValueError, UnavailableError) as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt as stopped:
        if (so_far := getattr(stopped, "report", None)) is not None:
            say(str(so_far))
        raise
    document.entries = [Entry(result_of(report), "gradcheck")]
    document.end(ok=report.ok)
    if files.report is not None:
        document.figures[report.name] = figure_of(report)
    problems = files.finish(document, report.to_dict())
    print_and_exit(0 if report.ok else 1, lambda: say(str(report)), problems)


def _with_keywords(fn: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    def called(*args: Any, **named: Any) -> Any:
        return fn(*args, **named, **options)

    called.__name__ = getattr(fn, "__name__", type(fn).__name__)
    signature = signature_of(fn)
    if signature is not None:
        left = [p for p in signature.parameters.values() if p.name not in options]
        called.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]  # what inspect looks for
    return called


def _framework_of(path: str, function: Any) -> str:
    """Give the framework that a function mentions, or else that its module belongs to or has imported."""
    module = sys.modules[path.partition(":")[0]]
    own = vars(module)
    if code := getattr(function, "__code__", None):
        mentioned = _roots(own[name] for name in _names(code) & own.keys())
        if mentioned & _FRAMEWORKS.keys():
            return next(name for name in _FRAMEWORKS if name in mentioned)
    held = {module.__name__.split(".")[0]} | _roots(own.values())
    return next((name for name in _FRAMEWORKS if name in held), "numpy")


# What uses one of the first may use NumPy besides.
_FRAMEWORKS = dict.fromkeys(("torch", "jax", "numpy"))


def _roots(values: Iterable[Any]) -> set[str]:
    """Give the packages of modules among values."""
    return {getattr(v, "__name__", "").split(".")[0] for v in values}


def _names(code: CodeType) -> set[str]:
    """Give the names that a function's code mentions, and that of functions within it."""
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return {*code.co_names}.union(*map(_names, inner))
