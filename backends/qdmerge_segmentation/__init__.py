"""Segmentation models as a genome backend of qdmerge."""
