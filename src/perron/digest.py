"""Values, files and functions in; SHA-256 over a tagged canonical form out: `1`, `"1"` and `True` differ."""

import dis
import hashlib
import types
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

__all__ = ["digest", "digest_bytes", "digest_code", "digest_file"]

CHUNK = 1 << 20


def digest(value: object) -> str:
    """The hex SHA-256 of a value made of plain data, enums, dataclasses, paths and functions' code.

    Order matters in lists and tuples (which are equal to each other) and not in dicts and sets.

    Raises:
        TypeError: a value of another kind, named.
    """
    sha = hashlib.sha256()
    for piece in _pieces(value):
        sha.update(piece)
    return sha.hexdigest()


def digest_bytes(data: bytes) -> str:
    """The hex SHA-256 of the bytes themselves."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: str | Path) -> str:
    """The hex SHA-256 of a file's bytes, read in chunks.

    Raises:
        OSError: the file can't be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_code(function: Callable[..., object], root: Path | None = None) -> str:
    """The digest of what a function computes: its code, defaults, closure and the globals it names.

    Comments, blank lines and line numbers don't change it. A function or class that it names is
    followed when it is defined below `root` (or, without `root`, in the same module); what comes
    from an installed package counts by name, and its version by the environment's digest.
    """
    sha = hashlib.sha256()
    for piece in _function(function, root, set()):
        sha.update(piece)
    return sha.hexdigest()


def _pieces(value: object) -> Iterator[bytes]:
    """The value as tagged, length-prefixed pieces: no two values share a form."""
    match value:
        case None:
            yield b"n;"
        case Enum():
            yield from _tag(b"e", f"{type(value).__qualname__}.{value.name}".encode())
        case bool():
            yield b"b1;" if value else b"b0;"
        case int():
            yield from _tag(b"i", str(value).encode())
        case float():
            yield from _tag(b"f", value.hex().encode())
        case str():
            yield from _tag(b"s", value.encode("utf-8", "surrogatepass"))
        case bytes():
            yield from _tag(b"y", value)
        case datetime():
            yield from _tag(b"t", value.isoformat().encode())
        case date():
            yield from _tag(b"d", value.isoformat().encode())
        case Path():
            yield from _tag(b"p", value.as_posix().encode())
        case list() | tuple():
            yield from _tag(b"l", str(len(value)).encode())
            for item in value:
                yield from _pieces(item)
        case dict():
            yield from _tag(b"m", str(len(value)).encode())
            for key_form, item in sorted((b"".join(_pieces(k)), v) for k, v in value.items()):
                yield key_form
                yield from _pieces(item)
        case set() | frozenset():
            yield from _tag(b"u", str(len(value)).encode())
            yield from sorted(b"".join(_pieces(item)) for item in value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            yield from _tag(b"c", type(value).__qualname__.encode())
            for field in fields(value):
                yield from _pieces(field.name)
                yield from _pieces(getattr(value, field.name))
        case _ if callable(value):
            yield from _tag(b"x", digest_code(value).encode())
        case _:
            raise TypeError(f"Can't hash a {type(value).__qualname__}: {value!r:.80}")


def _tag(tag: bytes, data: bytes) -> Iterator[bytes]:
    yield tag + str(len(data)).encode() + b":" + data + b";"


def _function(function: object, root: Path | None, seen: set[int]) -> Iterator[bytes]:
    if id(function) in seen:
        yield b"again;"
        return
    seen.add(id(function))
    function = getattr(function, "__wrapped__", function)
    if isinstance(function, types.MethodType):
        function = function.__func__
    if isinstance(function, type):
        yield from _tag(b"class", function.__qualname__.encode())
        for name, member in sorted(vars(function).items()):
            if isinstance(member, types.FunctionType | staticmethod | classmethod | property):
                yield from _tag(b"member", name.encode())
                inner = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
                yield from _function(inner, root, seen)
        return
    code = getattr(function, "__code__", None)
    if code is None:  # a built-in, or an object with __call__
        yield from _tag(
            b"named",
            f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}".encode(),
        )
        return
    yield from _code(code)
    for default in (
        *(getattr(function, "__defaults__", None) or ()),
        *sorted((getattr(function, "__kwdefaults__", None) or {}).items()),
    ):
        yield from _reference("default", default, function, root, seen)
    for name, cell in zip(code.co_freevars, getattr(function, "__closure__", None) or (), strict=False):
        yield from _reference(name, _contents(cell), function, root, seen)
    names = getattr(function, "__globals__", {})
    for name in sorted(set(_global_names(code))):
        if name in names:
            yield from _reference(name, names[name], function, root, seen)


def _contents(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled: a name that is bound later
        return None


def _code(code: types.CodeType) -> Iterator[bytes]:
    """The instructions and constants, without names of files and numbers of lines."""
    yield from _tag(b"code", code.co_code)
    yield from _tag(b"names", repr((code.co_names, code.co_varnames, code.co_freevars)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant)
        else:
            yield from _tag(
                b"const",
                f"{type(constant).__name__}:{sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant!r}".encode(),
            )


def _global_names(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _reference(name: str, value: object, owner: object, root: Path | None, seen: set[int]) -> Iterator[bytes]:
    yield from _tag(b"ref", name.encode())
    if isinstance(value, types.ModuleType):
        file = getattr(value, "__file__", None)
        if file and root and Path(file).resolve().is_relative_to(root.resolve()) and ".venv" not in Path(file).parts:
            yield from _tag(b"file", digest_file(file).encode())
        else:
            yield from _tag(b"module", value.__name__.encode())
    elif isinstance(value, type) or callable(value):
        if _is_own(value, owner, root):
            yield from _function(value, root, seen)
        else:
            yield from _tag(
                b"named",
                f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}".encode(),
            )
    else:
        try:
            yield from _pieces(value)
        except TypeError:
            yield from _tag(b"type", type(value).__qualname__.encode())


def _is_own(value: object, owner: object, root: Path | None) -> bool:
    code = getattr(getattr(value, "__wrapped__", value), "__code__", None)
    file = code.co_filename if code else None
    if root is not None and file:
        path = Path(file).resolve()
        return path.is_relative_to(root.resolve()) and ".venv" not in path.parts
    return getattr(value, "__module__", None) == getattr(owner, "__module__", object())
