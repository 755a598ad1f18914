"""import_order.py [PACKAGE]: whether the modules of pjfail import one way only, those for type checkers included.

Prints each import that goes up, or that is part of a cycle, and each use of the compiled core outside of pjfail.bridge;
exit status 1 when there is one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Each layer imports only from those before it, and its modules from each other where there is no cycle. A name stands
# for a module, or for a package with all that is in it. The last layer is the package itself, with what users import.
LAYERS = (
    {"_native", "_tables", "_validation", "_values", "errors", "window"},
    {"model"},
    {"detection", "events", "follow_settings", "health", "order", "policy", "retry"},
    {"planning"},
    {"bridge"},
    {"lookup"},
    {
        "affinity",
        "calls",
        "finder",
        "following",
        "host",
        "machine",
        "monitor",
        "network",
        "news",
        "probe",
        "reconnection",
        "recovery",
        "request",
        "resolution",
        "rulings",
        "shared",
        "standby",
        "targets",
    },
    {"maintenance"},
    {"worker"},
    {"control"},
    {"failover"},
    {"configuration"},
    {"launch"},
    {"listeners", "testing"},
    {"cli"},
    {"", "__main__"},
)
CORE, ITS_USER = "_native", "bridge"

Imports = Mapping[str, frozenset[str]]


def imports_of(package: Path) -> Imports:
    """The modules of *package* that each of its modules imports, by names relative to it; "" is the package itself."""
    files = {_name(file.relative_to(package)): file for file in sorted(package.rglob("*.py")) if not file.is_symlink()}
    modules = {*files, CORE}
    return {name: frozenset(_imported(name, file, modules, package.name) - {name}) for name, file in files.items()}


def _name(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(name: str, file: Path, modules: set[str], package: str) -> set[str]:
    """What *file* imports anywhere in it: at its head, in a function, for type checkers."""
    base = (name if file.name == "__init__.py" else name.rpartition(".")[0]).split(".") if name else []
    base = [part for part in base if part]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = base[: len(base) - node.level + 1] + (node.module or "").split(".")
            found |= _meant([part for part in parts if part], [alias.name for alias in node.names], modules)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package:
            found |= _meant(node.module.split(".")[1:], [alias.name for alias in node.names], modules)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == package:
                    found |= _meant(alias.name.split(".")[1:], [], modules)
    return found


def _meant(parts: list[str], names: list[str], modules: set[str]) -> set[str]:
    """The modules that ``from parts import names`` imports: submodules by their names, else the package's own names."""
    submodules = {".".join([*parts, name]) for name in names} & modules
    if names and len(submodules) == len(names):
        return submodules
    return submodules | {".".join(parts)}


def problems(imports: Imports) -> Iterator[str]:
    """In words, what is wrong with *imports*."""
    for name, imported in imports.items():
        own = _layer(name)
        if own is None:
            yield f"{_called(name)} is in no layer of tools/import_order.py"
            continue
        for other in sorted(imported):
            its = _layer(other)
            if its is not None and its > own:
                yield f"{_called(name)} imports {_called(other)}, which is in a layer above it"
        if CORE in imported and name.partition(".")[0] != ITS_USER:
            yield f"{_called(name)} imports {_called(CORE)}, which {_called(ITS_USER)} alone may"
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        yield "import cycle: " + " <- ".join(map(_called, error.args[1]))


def _layer(name: str) -> int | None:
    """The number of the layer that has *name*, or the package that it is in."""
    top = name.partition(".")[0]
    return next((number for number, layer in enumerate(LAYERS) if top in layer), None)


def _called(name: str) -> str:
    return f"pjfail.{name}".rstrip(".")


def main(package: Path) -> int:
    found = list(problems(imports_of(package)))
    for problem in found:
        print(f"imports: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "pjfail"))
