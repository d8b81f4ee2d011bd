"""The house: which room may import which, no circle between files, no file too long.

Read from the source with ``ast``, so that imports inside functions count as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FRAMEWORK = "qdmerge"
BACKENDS = ("qdmerge_llm", "qdmerge_segmentation")
ZOO = "qdmerge_zoo"

FLOORS = (
    ("errors",),
    ("options", "plugins", "storage", "criteria"),
    ("training", "checkpoints"),
    ("spaces",),
    ("backend",),
    ("guide",),
    ("operators",),
    ("archives", "emitters"),
    ("schedulers",),
    ("merges",),
    ("parts",),
    ("search",),
    ("settings", "execution", "reports"),
    ("runs",),
    ("cli", "testing"),
    ("compare",),
)
"""Rooms of the framework from the ground up: a room imports from lower floors only."""

LONGEST = 400
"""Lines that a file of the product has at most."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "backends" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path
    for folder in (FRAMEWORK, "backends")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def exports(package: str) -> dict[str, tuple[str, str]]:
    """Name that a package re-exports, to the module and the name that it comes from."""
    path = FILES[package]
    stub = path.with_suffix(".pyi")  # of packages whose names are lazy
    found = {}
    for node in parsed(stub if stub.exists() else path).body:
        if isinstance(node, ast.ImportFrom):
            home = f"{package}.{node.module}" if node.level else str(node.module)
            found |= {alias.asname or alias.name: (home, alias.name) for alias in node.names}
    return found


def home_of(module: str, name: str) -> str:
    """The file that ``from module import name`` takes the name from."""
    if f"{module}.{name}" in FILES:
        return f"{module}.{name}"
    if module in FILES and FILES[module].name == "__init__.py" and name in exports(module):
        return home_of(*exports(module)[name])
    return module


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, whether for type checkers only) of all imports of a file, functions included."""

    def visit(node: ast.AST, typing_only: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            only = typing_only or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            )
            if isinstance(child, ast.Import):
                yield from ((alias.name, only) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, f"{path}: imports are absolute"
                yield from ((home_of(str(child.module), a.name), only) for a in child.names)
            yield from visit(child, only)

    return visit(parsed(path), False)


@cache
def graph(typing: bool = True) -> dict[str, set[str]]:
    """Module to the modules of this repository that it imports, and that it names in text."""
    found = {}
    for module, path in FILES.items():
        targets = {name for name, only in imports_of(path) if typing or not only}
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = re.fullmatch(r"(qdmerge[\w.]*):(\w+)", node.value)
                targets |= {home_of(*named.groups())} if named else set()
        found[module] = {name for name in targets if name in FILES and name != module}
    return found


def package_of(module: str) -> str:
    return module.partition(".")[0]


def room(module: str) -> str:
    """The room of a module of the framework; the front door is none."""
    return [*module.split("."), ""][1]


FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def test_every_room_has_its_floor() -> None:
    rooms = {room(module) for module in FILES if package_of(module) == FRAMEWORK} - {""}
    assert rooms == FLOOR.keys()


def test_rooms_import_from_lower_floors_only() -> None:
    """``cli, compare -> runs -> settings -> search -> ... -> checkpoints -> storage, errors``."""
    upwards = [
        f"{module} imports {target}"
        for module, targets in graph().items()
        for target in sorted(targets)
        if package_of(module) == package_of(target) == FRAMEWORK
        and room(module) != room(target)
        and not FLOOR.get(room(target), -1) < FLOOR.get(room(module), len(FLOORS))
    ]
    assert not upwards


def test_nothing_imports_the_command_line_or_the_laboratory() -> None:
    """Except the laboratory's own command, which prints as any other command does."""
    users = {
        room: {package_of(m) + "." + m.partition(".")[2].partition(".")[0] for m in modules}
        for room in ("cli", "compare")
        if (modules := importers(f"{FRAMEWORK}.{room}"))
    }
    assert users.get("compare", set()) <= {"qdmerge.compare"}
    assert users.get("cli", set()) <= {"qdmerge.cli", "qdmerge.compare"}


def importers(package: str) -> set[str]:
    return {
        module
        for module, targets in graph().items()
        if any(target == package or target.startswith(f"{package}.") for target in targets)
    }


def test_the_framework_knows_no_backend() -> None:
    for module, path in FILES.items():
        if package_of(module) == FRAMEWORK:
            assert not re.search(r"\bqdmerge_\w+", path.read_text(encoding="utf-8")), module


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_knows_neither_the_zoo_nor_another_backend(backend: str) -> None:
    others = {*BACKENDS, ZOO} - {backend}
    named = {
        other
        for module, path in FILES.items()
        if package_of(module) == backend
        for other in others
        if re.search(rf"\b{other}\b", path.read_text(encoding="utf-8"))
    }
    assert not named


@pytest.mark.parametrize("typing", [False, True], ids=["running", "type-checking"])
def test_no_circle_between_files(typing: bool) -> None:
    """Imports inside functions count; those for type checkers count in the second case."""
    try:
        TopologicalSorter(graph(typing)).prepare()
    except CycleError as error:
        circle = " <- ".join(error.args[1])
        pytest.fail(f"a circle between files: {circle}")


def test_no_file_is_too_long() -> None:
    lines = {
        module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in FILES.items()
    }
    assert not {module: n for module, n in lines.items() if n > LONGEST}
    assert len(lines) > 100, "the sweep sees the tree"


def test_examples_and_pages_import_public_modules_only() -> None:
    private = set()
    seen = 0
    for path in [*(ROOT / "examples").rglob("*.py"), *(ROOT / "tests" / "plugin").rglob("*.py")]:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            names = [name for name in names if name.startswith("qdmerge")]
            seen += len(names)
            private |= {
                f"{path.relative_to(ROOT).as_posix()}: {name.rpartition('.')[0]}"
                for name in names
                if re.search(r"\._(?!_)", name)
            }
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        private |= {
            f"{page.relative_to(ROOT).as_posix()}: {module}"
            for module in re.findall(r"(?:from|import) (qdmerge[\w.]*\._\w+)", text)
        }
    assert seen > 50, "the sweep sees the examples"
    assert not private
