"""Upright, rotated and inverted digits: a domain of its own, found by qdmerge by entry point."""
