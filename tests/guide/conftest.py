"""Small real models on disk."""

from tests.trios import make_space, make_trio

__all__ = ["make_space", "make_trio"]
