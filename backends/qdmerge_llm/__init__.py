"""Causal language models as a genome backend of qdmerge."""
