"""A run's folder: its files, and which process may use it."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from qdmerge.errors import ConfigError, RunError
from qdmerge.runs._log import SolutionStore, read_events
from qdmerge.settings import RunConfig, parse_config
from qdmerge.storage import clear_partial, locked, parse_yaml, read_json, write_json, write_whole

FORMAT = 2
"""Format of run folders; a folder of another format is refused."""

_SPARE_BYTES = 64 * 2**20


class RunFolder:
    """The folder of a run.

    Args:
        path: The folder.

    Attributes:
        path: The folder.
        config: Path of ``config.yaml``.
        log: Path of ``events.jsonl``, the event log.
        results: Path of ``results.json``.
        table: Path of ``results.md``.
        figures: Path of the folder of figures.
        model: Path of the exported model.
        solutions: The solutions that the log refers to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.log = self.path / "events.jsonl"
        self.results = self.path / "results.json"
        self.table = self.path / "results.md"
        self.figures = self.path / "figures"
        self.model = self.path / "model"
        self.solutions = SolutionStore(self.path / "solutions")

    @classmethod
    def create(cls, path: str | Path, config: RunConfig) -> RunFolder:
        """Make the folder of a new run and write its configuration.

        Raises:
            RunError: The folder is not empty, or cannot be written.
        """
        folder = cls(path)
        folder.check_free()
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump({"format": FORMAT, **config.echo()}, sort_keys=False)
            with folder.locked():  # another process may be about to begin its run here
                write_whole(folder.config, text)
                folder.log.touch()
        except OSError as error:
            raise RunError(
                f"cannot write the run folder {folder.path}: {error.strerror or error}"
            ) from error
        return folder

    def check_free(self) -> None:
        """Check that a new run can be made here.

        Raises:
            RunError: The folder is not empty, or cannot be written.
        """
        # A run that was refused before it began leaves these files, and may be tried again.
        # A configuration without a log is somebody's own.
        harmless = {self.config, self.log, self.path / ".lock"}
        try:
            begun = os.path.exists(self.log)
            if begun and self.log.stat().st_size:
                raise RunError(
                    f"{self.path} already holds a run; continue it with `qdmerge resume "
                    f"{self.path}`, or choose another --out"
                )
            there = set(self.path.iterdir()) if os.path.isdir(self.path) else set()
            if there - (harmless if begun else set()):
                raise RunError(f"{self.path} is not empty; choose another --out")
            place = next(one for one in (self.path, *self.path.absolute().parents) if one.exists())
        except OSError as error:
            raise RunError(
                f"cannot write the run folder {self.path}: {error.strerror or error}"
            ) from error
        if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            what = "cannot be written" if place.is_dir() else "is not a folder"
            raise RunError(f"cannot write the run folder {self.path}: {place} {what}")

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open the folder of an existing run.

        Raises:
            RunError: The folder holds no run, or one of another format.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise RunError(f"{folder.path} holds no run (no {folder.config.name})")
        found = folder._read_yaml().get("format")
        if found != FORMAT:
            raise RunError(
                f"{folder.path} is a run of format {found}; this qdmerge reads format {FORMAT}. "
                "Use the version of qdmerge that made it"
            )
        return folder

    def _read_yaml(self) -> dict[str, Any]:
        try:
            data = parse_yaml(self.config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read {self.config}: {error}") from error
        if not isinstance(data, dict):
            raise RunError(f"{self.config} is damaged: it holds no configuration")
        return data

    def read_plain_config(self) -> dict[str, Any]:
        """Read the run's configuration as plain data, as it was written.

        Raises:
            RunError: It cannot be read.
        """
        data = self._read_yaml()
        data.pop("format", None)
        return data

    def read_config(self) -> RunConfig:
        """Read and check the run's configuration.

        Raises:
            RunError: It is damaged, or this version does not accept it.
        """
        data = self.read_plain_config()
        try:
            with warnings.catch_warnings():
                # Former names in the file of an existing run are nobody's mistake.
                warnings.simplefilter("ignore", FutureWarning)
                return parse_config(data)
        except ConfigError as error:
            raise RunError(f"{self.config} is not valid: {error}") from error

    def read_events(self) -> list[dict[str, Any]]:
        """Read the events of the run's log; see :func:`qdmerge.runs.read_events`."""
        return read_events(self.log) if self.log.exists() else []

    def read_results(self) -> dict[str, Any]:
        """Read the run's results.

        Raises:
            RunError: The run has no results yet, or they are damaged.
        """
        if not self.results.is_file():
            raise RunError(
                f"{self.path} has no results yet; finish it with `qdmerge resume {self.path}`"
            )
        return read_json(self.results)

    def write_results(self, results: dict[str, Any]) -> None:
        """Write ``results.json``, whole or not at all.

        Raises:
            RunError: It cannot be written.
        """
        try:
            write_json(self.results, results)
        except OSError as error:
            raise RunError(
                f"cannot write {self.results}: {error.strerror or error}. The log is complete; "
                "make room, then resume the run"
            ) from error

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from running in this folder.

        Raises:
            RunError: Another process does, or the folder cannot be written.
        """
        return locked(self.path / ".lock", f"another process is running in {self.path}")

    def clear(self) -> None:
        """Remove what a killed run left unfinished; call it under the lock.

        Raises:
            RunError: It cannot be removed.
        """
        try:
            for folder in (self.path, self.path / "solutions", self.figures):
                clear_partial(folder)
        except OSError as error:
            raise RunError(
                f"cannot clear {error.filename or self.path}: {error.strerror or error}"
            ) from error

    def check_room(self, n_solutions: int, bytes_each: int) -> None:
        """Check that the run's solutions will fit on the disk.

        Raises:
            RunError: Too little room, or the folder cannot be written.
        """
        probe = self.path / ".probe"
        try:
            probe.write_bytes(os.urandom(4096))
            probe.unlink()
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            raise RunError(
                f"cannot write the run folder {self.path}: {error.strerror or error}"
            ) from error
        needed = n_solutions * bytes_each + _SPARE_BYTES
        if free < needed:
            raise RunError(
                f"the disk of {self.path} has {free / 2**20:.0f} MiB free, but the run needs up to "
                f"{needed / 2**20:.0f} MiB; make room or choose another --out"
            )


def versions(more: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions of packages that decide a run's numbers, and of installed ``more``."""
    names = ("qdmerge", "ribs", "torch", "numpy", *(name for name in more if find_spec(name)))
    return {package: version(package) for package in names}
