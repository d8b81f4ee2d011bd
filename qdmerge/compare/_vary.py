"""Several test beds from one configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from qdmerge.config import RunConfig
from qdmerge.errors import ConfigError


def vary(
    load: Callable[[Sequence[str]], RunConfig], name: str, variations: Sequence[str]
) -> dict[str, RunConfig]:
    """Test beds: one configuration for every combination of the varied settings.

    Args:
        load: Loads the configuration with ``"dotted.key=value"`` settings.
        name: Name of the test bed where nothing varies.
        variations: Each ``"dotted.key=value,value,..."``.

    Returns:
        Name of a test bed (``"tiny_seed=1"``) to its configuration.

    Raises:
        ConfigError: A variation of another form, or a configuration with mistakes.
    """
    settings = []
    for variation in variations:
        key, separator, values = variation.partition("=")
        found = [value.strip() for value in values.split(",") if value.strip()]
        if not (separator and key and found):
            raise ConfigError(
                f"'{variation}' is not of the form key=value,value (backend.tiny_seed=0,1)"
            )
        if len(set(found)) < len(found):
            raise ConfigError(f"'{variation}' names a value twice")
        settings.append([(key, value) for value in found])
    if not settings:
        return {name: load([])}
    return {
        " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in chosen): load(
            [f"{key}={value}" for key, value in chosen]
        )
        for chosen in product(*settings)
    }
