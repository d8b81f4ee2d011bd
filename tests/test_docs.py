"""What README and docs say is true of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import typer
import yaml

from qdmerge.cli import app
from qdmerge.settings import parse_config

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def test_the_snippet_of_the_readme_runs(tmp_path):
    (snippet,) = blocks("README.md", "python")
    code = snippet.replace("llm-tiny", "toy")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "task2" in done.stdout
    assert list((tmp_path / "merged-model").iterdir())


def test_the_python_of_the_how_to_runs():
    import qdmerge as qm
    from qdmerge.operators import SVDMutation

    (snippet,) = blocks("docs/how-to/swap-parts.md", "python")
    # The toy's space has no singular components; everything else runs as it is written.
    code = snippet.replace("SVDMutation(spec.space, spec.expert, scale=0.2), ", "")
    assert code != snippet
    backend = qm.load_backend("toy")
    names: dict = {"backend": backend}
    exec(code, names)
    search = names["search"]
    for _ in range(8):
        batch = search.ask()
        search.tell(batch, backend.evaluate(batch.solutions, "validation"))
    assert all(len(archive) >= 3 for archive in search.archives.values())
    assert SVDMutation


def test_the_yaml_of_the_how_to_is_valid():
    for text in blocks("docs/how-to/swap-parts.md", "yaml"):
        config = parse_config({"backend": "toy", **yaml.safe_load(text)})
        assert config.emitters


def test_the_contract_of_the_how_to_runs(tmp_path):
    (snippet,) = blocks("docs/how-to/contracts.md", "python")
    (tmp_path / "test_mine.py").write_text(snippet, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_the_page_of_the_command_line_names_every_command_and_option():
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    context = typer.Context(group)
    commands = {name: group.get_command(context, name) for name in group.list_commands(context)}
    sections = dict(re.findall(r"^## `qdmerge (\w+)`\n(.*?)(?=^## |\Z)", page, flags=re.S | re.M))
    assert set(sections) == set(commands), "regenerate docs/cli.md as its first lines say"
    for name, command in commands.items():
        options = {flag for parameter in command.params for flag in parameter.opts if "--" in flag}
        missing = {option for option in options if option not in sections[name]}
        assert not missing, f"docs/cli.md, {name}: {missing}"


def test_links_between_pages_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    ]
    assert len(links) > 3
    for page, target in links:
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
