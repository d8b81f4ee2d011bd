"""Runs in mergekit's environment, not in ours: ``python in_mergekit.py JOB.json``.

The job holds mergekit configurations with the folders to write, and the file with the draws that
stand in for those of DARE. Of mergekit nothing else is replaced.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from unittest import mock

import mergekit.sparsify
import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file


def main(job: dict) -> None:
    draws = load_file(job["draws"])
    drop = mergekit.sparsify.bernoulli

    def with_our_draws(delta: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        # Only the values of a task vector tell here which one it is.
        draw = draws[hashlib.sha256(delta.contiguous().numpy().tobytes()).hexdigest()]
        with mock.patch.object(torch, "bernoulli", lambda p: (draw < p).to(p.dtype)):
            return drop(delta, *args, **options)

    mergekit.sparsify.bernoulli = with_our_draws
    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    for config, out in job["merges"]:
        run_merge(MergeConfiguration.model_validate(config), out, options)


main(json.loads(Path(sys.argv[1]).read_text()))
