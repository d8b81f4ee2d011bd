"""Importing stays quick: what a command does not need, it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

import qdmerge

HEAVY = ("torch", "transformers", "ribs", "pandas", "matplotlib", "numba", "sklearn")
MEDIUM = (*HEAVY, "scipy")


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import qdmerge",
        "import qdmerge; qdmerge.Task, qdmerge.Measure, qdmerge.BackendConfig",
        "import qdmerge.parts._named, qdmerge.settings._loading, qdmerge.backend",
        "import qdmerge.archives, qdmerge.schedulers, qdmerge.emitters, qdmerge.spaces",
        "from qdmerge.settings import catalog; assert all(catalog().values())",
        "from qdmerge.settings import load_config; load_config('toy').echo()",
        "import qdmerge.runs._history",
    ],
)
def test_light_imports(statement: str) -> None:
    assert not loaded_by(statement) & set(HEAVY)


def test_the_package_alone_loads_nothing() -> None:
    assert not loaded_by("import qdmerge") & {*MEDIUM, "numpy", "pydantic", "yaml"}


def test_the_framework_knows_no_domain() -> None:
    statement = "import qdmerge.search, qdmerge.runs, qdmerge.execution, qdmerge.merges"
    found = loaded_by(statement)
    assert not found & {"transformers", "tokenizers", "qdmerge_llm"}


def test_every_public_name_can_be_loaded() -> None:
    for name in qdmerge.__all__:
        assert getattr(qdmerge, name) is not None
    with pytest.raises(AttributeError, match="No qdmerge attribute CycleQd"):
        _ = qdmerge.CycleQd


@pytest.mark.parametrize("package", ["operators", "archives", "emitters", "schedulers", "spaces"])
def test_every_name_of_a_package_can_be_loaded(package: str) -> None:
    module = getattr(__import__(f"qdmerge.{package}"), package)
    assert sorted(module.__all__) == list(dict.fromkeys(sorted(module.__all__)))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name
