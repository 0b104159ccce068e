"""Values, files and functions in; SHA-256 over a tagged canonical form out: `1`, `"1"` and `True` differ."""

import ast
import copyreg
import dis
import functools
import hashlib
import numbers
import sys
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
    return _hash(_plain(value))


def _hash(pieces: Iterator[bytes]) -> str:
    sha = hashlib.sha256()
    for piece in pieces:
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
    followed when it is defined below `root` (or, without `root`, in the same module); a module below
    `root` counts by its file and by the files below `root` that it imports; what comes from an
    installed package counts by name, and its version by the environment's digest. Other objects
    count by what a pickle of them would hold, or by their type where they can't be pickled.
    """
    return _hash(_Code(function, root).of(function))


def _plain(value: object) -> Iterator[bytes]:
    is_data = is_dataclass(value) and not isinstance(value, type)
    if callable(value) and not is_data:
        yield from _tag(b"x", digest_code(value).encode())
    else:
        yield from _pieces(value, _plain)


def _pieces(value: object, inner: Callable[[object], Iterator[bytes]]) -> Iterator[bytes]:
    """The value as tagged, length-prefixed pieces, what it holds by `inner`: no two values share a form."""
    match value:
        case None:
            yield b"n;"
        case Enum():
            yield from _tag(b"e", f"{type(value).__qualname__}.{value.name}".encode())
        case bool():
            yield b"b1;" if value else b"b0;"
        case int():
            yield from _tag(b"i", b"%x" % value)
        case float():
            yield from _tag(b"f", value.hex().encode())
        case numbers.Integral():  # NumPy's
            yield from _tag(b"i", str(int(value)).encode())
        case numbers.Real():
            yield from _tag(b"f", float(value).hex().encode())
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
                yield from inner(item)
        case dict():
            yield from _tag(b"m", str(len(value)).encode())
            for key_form, key in sorted(((b"".join(inner(key)), key) for key in value), key=lambda pair: pair[0]):
                yield key_form
                yield from inner(value[key])
        case set() | frozenset():
            yield from _tag(b"u", str(len(value)).encode())
            yield from sorted(b"".join(inner(item)) for item in value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            yield from _tag(b"c", type(value).__qualname__.encode())
            for field in fields(value):
                yield from inner(field.name)
                yield from inner(getattr(value, field.name))
        case _:
            raise TypeError(f"Can't hash a {type(value).__qualname__}: {value!r:.80}")


def _tag(tag: bytes, data: bytes) -> Iterator[bytes]:
    yield tag + str(len(data)).encode() + b":" + data + b";"


_LEAVES = (type(None), bool, int, float, str, bytes, date, Path)
_CONTAINERS = (list, tuple, dict, set, frozenset)


class _Code:
    """Walks from a function over everything that it names, each function, class and object once."""

    def __init__(self, start: object, root: Path | None) -> None:
        self._start = start
        self._home = getattr(start, "__module__", None)
        self._root = root.resolve() if root else None
        self._seen: dict[int, object] = {}  # by id, and kept, so that no id is given again
        self._open: set[int] = set()  # the containers that are being walked
        self._files: set[Path] = set()

    def of(self, value: object) -> Iterator[bytes]:
        if isinstance(value, Enum):
            yield from _pieces(value, self.of)
            yield from self.of(value.value)
        elif isinstance(value, _LEAVES):
            yield from _pieces(value, self.of)
        elif isinstance(value, _CONTAINERS):
            if id(value) in self._open:
                yield b"again;"
                return
            self._open.add(id(value))
            yield from _pieces(value, self.of)
            self._open.remove(id(value))
        elif id(value) in self._seen:
            yield b"again;"
        else:
            self._seen[id(value)] = value
            yield from self._once(value)

    def _once(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, types.ModuleType):
            file = Path(value.__file__ or "").resolve() if hasattr(value, "__file__") else None
            yield from self._file(file) if file and self._is_below(file) else _tag(b"module", value.__name__.encode())
        elif isinstance(value, types.MethodType):
            yield from self.of(value.__func__)
            yield from self.of(value.__self__)
        elif isinstance(value, functools.partial):
            yield b"partial;"
            yield from self.of([value.func, value.args, value.keywords])
        elif isinstance(value, types.FunctionType):
            yield from self._function(value) if self._is_own(value) else self._foreign(value)
        elif isinstance(value, type):
            yield from self._class(value) if self._is_own(value) else self._foreign(value)
        elif isinstance(value, types.BuiltinFunctionType) or hasattr(value, "__wrapped__"):
            yield from self._foreign(value)
        else:
            yield from self._object(value)

    def _function(self, function: types.FunctionType) -> Iterator[bytes]:
        yield from _instructions(function.__code__)
        yield from self.of([function.__defaults__ or (), function.__kwdefaults__ or {}])
        yield from self._closure(function)
        for name in sorted(set(_named(function.__code__, "LOAD_GLOBAL", "LOAD_NAME"))):
            if name in function.__globals__:
                yield from _tag(b"global", name.encode())
                yield from self.of(function.__globals__[name])
        for name in sorted(set(_named(function.__code__, "IMPORT_NAME"))):
            for file in self._files_of(name, Path(function.__code__.co_filename).resolve().parent):
                yield from self._file(file)

    def _closure(self, function: types.FunctionType) -> Iterator[bytes]:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            yield from _tag(b"cell", name.encode())
            try:
                content = cell.cell_contents
            except ValueError:  # not yet filled: a name that is bound later
                continue
            yield from self.of(content)

    def _class(self, made: type) -> Iterator[bytes]:
        yield from _tag(b"class", made.__qualname__.encode())
        yield from self.of(made.__bases__)
        for name, member in sorted(vars(made).items()):
            functions = _functions_of(member)
            if not functions and (name.startswith("__") or hasattr(type(member), "__set__")):
                continue  # what Python keeps there, and slots
            yield from _tag(b"member", name.encode())
            for function in functions:  # not asked whether they are own: a dataclass's are of no file
                yield from self._function(function)
            if not functions:
                yield from self.of(member)

    def _foreign(self, value: Any) -> Iterator[bytes]:
        """What an installed package defines: its name; and what it wraps, a decorator's arguments included."""
        name = getattr(value, "__qualname__", type(value).__qualname__)
        yield from _tag(b"named", f"{getattr(value, '__module__', '')}.{name}".encode())
        if hasattr(value, "__wrapped__"):
            if isinstance(value, types.FunctionType):
                yield from self._closure(value)
            yield from self.of(value.__wrapped__)

    def _object(self, value: Any) -> Iterator[bytes]:
        """What a pickle would hold: the class (followed, where it is the project's own) and the state."""
        yield from _tag(b"object", type(value).__qualname__.encode())
        try:
            reducer = copyreg.dispatch_table.get(type(value))
            reduced = reducer(value) if reducer else value.__reduce_ex__(4)
        except Exception:  # a lock, a file, a generator
            return
        if isinstance(reduced, str):
            yield from _tag(b"named", reduced.encode())
            return
        for part in reduced:
            yield from self.of(list(part) if isinstance(part, Iterator) else part)

    def _is_own(self, value: Any) -> bool:
        code = getattr(value, "__code__", None)
        if self._root is None or value is self._start:
            return getattr(value, "__module__", None) == self._home
        if code is not None:
            return self._is_below(Path(code.co_filename).resolve())
        # A class has no file of its own; that of its module is named there.
        module = sys.modules.get(getattr(value, "__module__", ""))
        file = getattr(module, "__file__", None)
        return bool(file) and self._is_below(Path(str(file)).resolve())

    def _is_below(self, file: Path) -> bool:
        if self._root is None or not file.is_relative_to(self._root):
            return False
        return not {".venv", "site-packages"}.intersection(file.relative_to(self._root).parts)

    def _file(self, file: Path) -> Iterator[bytes]:
        """The file's bytes, then the files below the root that it imports, whether or not they are loaded."""
        if file in self._files:
            return
        self._files.add(file)
        source = file.read_bytes()
        yield from _tag(b"file", hashlib.sha256(source).digest())
        try:
            nodes = list(ast.walk(ast.parse(source)))
        except (SyntaxError, ValueError):
            return  # a compiled module
        names: set[tuple[int, str]] = set()
        for node in nodes:
            if isinstance(node, ast.Import):
                names.update((0, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                names.update((node.level, f"{node.module or ''}.{alias.name}".strip(".")) for alias in node.names)
        for level, name in sorted(names):
            folder = file.parents[level - 1] if 0 < level <= len(file.parents) else file.parent
            for found in self._files_of(name, folder):
                yield from self._file(found)

    def _files_of(self, name: str, folder: Path) -> list[Path]:
        """The files below the root that importing the dotted name from a file of the folder may run."""
        if self._root is None:
            return []
        found = []
        for base in dict.fromkeys((folder, self._root)):
            path = base
            for part in name.split("."):
                path = path / part
                found += [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
        return [file.resolve() for file in dict.fromkeys(found) if self._is_below(file.resolve())]


def _instructions(code: types.CodeType) -> Iterator[bytes]:
    """The instructions and constants, without names of files and numbers of lines."""
    yield from _tag(b"code", code.co_code + code.co_exceptiontable)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    yield from _tag(b"names", repr((code.co_names, code.co_varnames, code.co_freevars, counts)).encode())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _instructions(constant)
        else:
            yield from _tag(
                b"const",
                f"{type(constant).__name__}:{sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant!r}".encode(),
            )


def _functions_of(member: object) -> list[types.FunctionType]:
    """The functions behind a class's attribute: a method's, or a property's two; none behind plain data."""
    match member:
        case types.FunctionType():
            found: tuple[object, ...] = (member,)
        case staticmethod() | classmethod():
            found = (member.__func__,)
        case property():
            found = (member.fget, member.fset)
        case functools.cached_property():
            found = (member.func,)
        case _:
            found = ()
    return [function for function in found if isinstance(function, types.FunctionType)]


def _named(code: types.CodeType, *instructions: str) -> Iterator[str]:
    """The names that these instructions of the code, and of the code within it, are about."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in instructions:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _named(constant, *instructions)
