"""The training of one model, in a process of one thread, so that one seed gives one result.

Run as ``python -m qdmerge_segmentation.training._train PLAN NAME...`` with the plan as JSON; see
:func:`qdmerge_segmentation.training.make_models`. It reports ``{"name", "done"}``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
import transformers

from qdmerge.checkpoints import weights_digest
from qdmerge.execution import Report, job_main, pick_device
from qdmerge.training import unfinished
from qdmerge_segmentation.models import load_segmenter
from qdmerge_segmentation.training._files import publish, save_model, write_unet
from qdmerge_segmentation.training._plan import UNET, Plan
from qdmerge_segmentation.training._record import versions, write_record
from qdmerge_segmentation.training._trainer import Training, check_prefixes


def make(name: str, plan: Plan, report: Report) -> None:
    """Train a model of a plan and move it to its place."""
    model, device = plan.models[name], pick_device(plan.device)
    images = {
        task: {split: settings.images.read(split) for split in ("train", "validation")}
        for task, settings in plan.tasks.items()
    }
    made_from = {
        "start": UNET if model.start == UNET else weights_digest(Path(model.start)),
        "settings": plan.settings_of(model),
        "images": {
            task: {split: found.fingerprint for split, found in splits.items()}
            for task, splits in images.items()
        },
        "device": device.type,
        "versions": versions(),
    }
    with unfinished(model.target, made_from) as (state, earlier):
        if not model.is_there:  # another process may have made it meanwhile
            start = Path(model.start)
            if model.start == UNET:
                start = write_unet(state / "start", plan.training.seed)
            segmenter = load_segmenter(
                start,
                image_size=plan.image_size,
                prompt=plan.prompt,
                factory=plan.factory,
                dtype=torch.float32,
                device=device,
                trust_remote_code=plan.trust_remote_code,
            )
            for stage in ("base", "experts"):  # before the base is trained, not after
                only = getattr(plan.training, stage).only
                check_prefixes(segmenter.module, only, f"training.{stage}.only")
            history = Training(model, plan, segmenter, images, state).run(report)
            made = save_model(segmenter, start, plan, state / "model")
            write_record(made / model.record.name, history, earlier)
            publish(made, model)
        shutil.rmtree(state)


def _work(report: Report) -> None:
    torch.set_num_threads(1)
    # Only a warning where a GPU lacks a deterministic algorithm; CPUs have all.
    torch.use_deterministic_algorithms(True, warn_only=True)
    transformers.utils.logging.disable_progress_bar()
    plan, *names = sys.argv[1:]
    for name in names:
        make(name, Plan.model_validate_json(plan), report)


if __name__ == "__main__":
    job_main(_work)
