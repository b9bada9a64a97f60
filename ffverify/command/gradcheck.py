"""``ffverify gradcheck package.module:function --input 'x: float32[3,4] in [-5, 5]'``.

Exit codes: 0 the gradient is right, 1 it is not, or nothing could be judged, 2 a word of the call is wrong.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Callable
from typing import Any

import click

from ffverify.errors import UnavailableError
from ffverify.exact import formats
from ffverify.frameworks.framework import framework
from ffverify.strategies import arrays, labels

from . import options
from .printing import print_and_exit
from .reports.checked import result_of
from .reports.files import Files
from .reports.records import Document, Entry, run_record

_INPUT = re.compile(
    r"\s*(?:(?P<name>\w+)\s*:)?\s*(?P<dtype>\w+)\s*(?:\[(?P<shape>[\d,\s]*)\])?"
    r"(?:\s+in\s+\[(?P<low>[^,\]]+),(?P<high>[^,\]]+)\])?\s*"
)
_INTEGER = "int64"


def parse_input(text: str, framework_name: str, device: str | None = None) -> Any:
    """Turn ``'x: float32[3,4] in [-5, 5]'`` into a strategy; integers are labels from 0.

    Raises
    ------
    ValueError
        If the text does not read so.
    """
    match = _INPUT.fullmatch(text)
    if match is None:
        raise ValueError(
            f"--input {text!r} cannot be read: write it like 'x: float32[3,4] in [-5, 5]' or "
            "'y: int64[3] in [0, 9]'"
        )
    shape = tuple(int(n) for n in (match["shape"] or "").split(",") if n.strip())
    low, high = (_number(match[end], text) for end in ("low", "high"))
    if match["dtype"] == _INTEGER:
        if low != 0 or high is None:
            raise ValueError(f"--input {text!r}: integers need a range from 0, as in [0, 9]")
        drawn = labels(shape, int(high) + 1)
        array = framework(framework_name).array
        return drawn.map(lambda a: array(a, _INTEGER, device))
    if match["dtype"] not in formats.FORMATS:
        raise ValueError(
            f"--input {text!r}: dtype {match['dtype']!r} is none of "
            f"{', '.join([*formats.FORMATS, _INTEGER])}"
        )
    return arrays(
        match["dtype"],
        shape,
        min_value=low,
        max_value=high,
        framework=framework_name,
        device=device,
    )


def _number(text: str | None, whole: str) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"--input {whole!r}: {text.strip()!r} is not a number") from error


def load_function(path: str) -> Callable[..., Any]:
    """Import ``package.module:function``; a call, as in ``torch.nn:Softplus()``, is allowed.

    Raises
    ------
    ValueError
        If there is no such module or name in it.
    TypeError
        If it is not callable.
    """
    module_name, colon, name = path.partition(":")
    if not colon or not name:
        raise ValueError(f"{path!r} names no function: write package.module:function")
    called = name.endswith("()")
    sys.path.insert(0, "")  # as `python -m` does: the user's module lies where the command is given
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.removesuffix("()").split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path!r} cannot be imported: {error}") from error
    finally:
        sys.path.remove("")
    found = found() if called else found
    if not callable(found):
        raise TypeError(f"{path!r} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]  # checked above


def _keywords(pairs: tuple[str, ...]) -> dict[str, Any]:
    out = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set {pair!r}: write name=value")
        try:
            out[name.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            out[name.strip()] = value.strip()
    return out


@click.command()
@click.argument("function", metavar="PACKAGE.MODULE:FUNCTION")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="SPEC",
    help="One input, in order; repeatable: 'x: float32[3,4] in [-5, 5]', 'y: int64[3] in [0, 9]'.",
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
    "--order",
    type=click.IntRange(1, 2),
    default=1,
    show_default=True,
    help="2 checks second derivatives in all four nestings too.",
)
@click.option("--strict", is_flag=True, help="Small and only relative losses of digits are errors.")
@click.option(
    "--max-examples",
    type=click.IntRange(min=1),
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
        chosen = framework_name or _framework_of(function)
        drawn = [parse_input(text, chosen, device) for text in inputs]
        options = _keywords(keywords)
        rules: dict[str, Any] = {
            n: load_function(p) for n, p in (("vjp", vjp), ("jvp", jvp)) if p is not None
        }
        definition = load_function(truth) if truth is not None and ":" in truth else truth
        called = _with_keywords(fn, options) if options else fn
        report = check(
            called, drawn, truth=definition, order=order, strict=strict,
            max_examples=max_examples, seed=seed, raise_exception=False, **rules,
        )  # fmt: skip
    except (TypeError, ValueError, UnavailableError) as error:
        raise click.UsageError(str(error)) from error
    document.entries = [Entry(result_of(report), "gradcheck")]
    document.end(ok=report.ok)
    files.finish(document, report.to_dict())
    print_and_exit(0 if report.ok else 1, lambda: click.echo(str(report)))


def _with_keywords(fn: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    def called(*args: Any) -> Any:
        return fn(*args, **options)

    called.__name__ = getattr(fn, "__name__", type(fn).__name__)
    return called


def _framework_of(path: str) -> str:
    """Give the framework that a function's module belongs to or has imported."""
    module = sys.modules[path.partition(":")[0]]
    root = module.__name__.split(".")[0]
    if root in ("torch", "jax"):
        return root
    held = {getattr(v, "__name__", "").split(".")[0] for v in vars(module).values()}
    return next((name for name in ("torch", "jax") if name in held), "numpy")
