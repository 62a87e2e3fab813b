"""The door to llama-cpp-python for processes that use nothing but llama.cpp's C functions."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

PACKAGE = "llama_cpp"
VERSION = re.compile(r"^__version__ = [\"'](.+)[\"']$", re.MULTILINE)


def functions_only() -> None:
    """Makes ``import llama_cpp`` give the C functions alone, in this process and from here on.

    The package's own ``__init__`` imports NumPy, chat formats and more beside them: 0.17 of the 0.31 s of processor
    time that a worker needed until it could take its job (an AMD EPYC, least of seven, alternating). A package that is
    laid out otherwise is imported as it is. Raises what an import of it raises: ImportError, OSError, RuntimeError.
    """
    if PACKAGE in sys.modules:
        return
    spec = find_spec(PACKAGE)
    if spec is None or not _has_functions(spec):
        import_module(PACKAGE)
        return
    package = ModuleType(PACKAGE)
    package.__spec__, package.__path__ = spec, list(spec.submodule_search_locations or ())
    vars(package)["__version__"] = _version(spec)
    sys.modules[PACKAGE] = package
    try:
        functions = import_module(f"{PACKAGE}.{PACKAGE}")
    except BaseException:
        del sys.modules[PACKAGE]
        raise
    vars(package).update({name: value for name, value in vars(functions).items() if not name.startswith("__")})


def _has_functions(spec: ModuleSpec) -> bool:
    return any((Path(folder) / f"{PACKAGE}.py").is_file() for folder in spec.submodule_search_locations or ())


def _version(spec: ModuleSpec) -> str | None:
    """As the package states it in its ``__init__``; the distribution's metadata would take longer to import."""
    stated = VERSION.search(Path(spec.origin).read_text(encoding="utf-8")) if spec.origin else None
    return stated.group(1) if stated else None
