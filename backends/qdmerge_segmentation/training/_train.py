"""Training of models in a process of one thread, so that one seed gives one result.

Run as ``python -m qdmerge_segmentation.training._train CONFIG NAME...`` with the configuration as
JSON; see :func:`qdmerge_segmentation.training.make_models`. It reports ``{"name", "done"}``.
"""

from __future__ import annotations

import shutil
import sys

import torch
import transformers

from qdmerge.execution import Report, job_main, pick_device
from qdmerge.storage import locked
from qdmerge_segmentation.config import SegmentationConfig
from qdmerge_segmentation.models import load_segmenter
from qdmerge_segmentation.training._formats import publish, save_model, write_unet
from qdmerge_segmentation.training._parameters import check_beginnings
from qdmerge_segmentation.training._plan import UNET, local_models
from qdmerge_segmentation.training._record import write_record
from qdmerge_segmentation.training._state import LOCK
from qdmerge_segmentation.training._trainer import Training


def make(name: str, config: SegmentationConfig, report: Report) -> None:
    """Trains a model of a configuration and puts it to its place."""
    model = local_models(config)[name]
    model.state.mkdir(parents=True, exist_ok=True)
    busy = f"Another process is training {model.name} in {model.state.name}"
    with locked(model.state / LOCK, busy):
        if model.start == UNET:
            start = write_unet(model.state / "start", config.training.seed)
        else:
            start = config.resolve(model.start)
        segmenter = load_segmenter(
            start,
            image_size=config.image_size,
            prompt=config.prompt,
            factory=config.factory,
            dtype=torch.float32,
            device=pick_device(config.device),
            trust_remote_code=config.trust_remote_code,
        )
        for stage in ("base", "experts"):  # found before the base is trained, not after
            only = getattr(config.training, stage).only
            check_beginnings(segmenter.module, only, f"training.{stage}.only")
        history = Training(model, config, segmenter).run(report)
        made = save_model(segmenter, start, config, model.state / "model")
        write_record(made / model.record.name, history)
        publish(made, model)
    shutil.rmtree(model.state)


def _work(report: Report) -> None:
    torch.set_num_threads(1)
    # Only warned of where a GPU has no such algorithm; on a CPU all have.
    torch.use_deterministic_algorithms(True, warn_only=True)
    transformers.utils.logging.disable_progress_bar()
    settings, *names = sys.argv[1:]
    for name in names:
        make(name, SegmentationConfig.model_validate_json(settings), report)


if __name__ == "__main__":
    job_main(_work)
