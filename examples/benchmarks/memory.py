"""What merging large checkpoints costs in memory, next to the size of one model.

Makes a base and experts of random weights in shards, merges them with an expert space in a process
of its own, streamed into a checkpoint, and prints its peak of resident memory. Beside it, so that
the price of the interpreter and torch is known, the peak of a process that only imports them.
Everything is deleted afterwards. Needs (experts + 2) times the size of a model on the disk.

python examples/benchmarks/memory.py --gib 2
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from qdmerge.checkpoints import TaskVectors
from qdmerge.spaces import ExpertSpace

GIB = 2**30


def shapes(gib: float, hidden: int, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Tensors like a Llama's until ``gib`` GiB of 16-bit numbers are full."""
    left = gib * GIB / 2 - 2 * vocabulary * hidden
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    layer = 0
    while left > 0:
        block = {
            **{f"self_attn.{n}_proj.weight": (hidden, hidden) for n in "qkvo"},
            "mlp.gate_proj.weight": (3 * hidden, hidden),
            "mlp.up_proj.weight": (3 * hidden, hidden),
            "mlp.down_proj.weight": (hidden, 3 * hidden),
            "input_layernorm.weight": (hidden,),
        }
        yield from ((f"model.layers.{layer}.{n}", shape) for n, shape in block.items())
        left -= 13 * hidden**2
        layer += 1
    yield "lm_head.weight", (vocabulary, hidden)


def write_model(folder: Path, args: argparse.Namespace, seed: int) -> int:
    """Write one model in shards with an index; return its bytes."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    total = 0

    def flush() -> None:
        name = f"model-{len(set(weight_map.values())) + 1:05d}.safetensors"
        weight_map.update(dict.fromkeys(shard, name))
        save_file(shard, folder / name, metadata={"format": "pt"})
        shard.clear()

    for name, shape in shapes(args.gib, args.hidden, args.vocabulary):
        shard[name] = torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
        total += shard[name].nbytes
        if sum(tensor.nbytes for tensor in shard.values()) > args.shard_gib * GIB:
            flush()
    flush()
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def merge(root: Path, experts: list[str]) -> None:
    """Merge and export; what the measured process does."""
    vectors = TaskVectors(root / "base", {name: root / name for name in experts})
    space = ExpertSpace(vectors)
    space.export([1 / len(experts)] * len(experts), root / "merged")


def peak_kib() -> int:
    """Peak resident memory of this process; ``ru_maxrss`` would begin at its parent's (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def measured(*arguments: str) -> tuple[float, float]:
    """Seconds and peak resident GiB of this program in a process of its own."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return time.perf_counter() - start, float(done.stdout) * 1024 / GIB


def main() -> None:
    """Make the models, merge them in another process, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=2.0, help="size of one model")
    parser.add_argument("--experts", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--shard-gib", type=float, default=0.5)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--merge", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--idle", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    experts = [f"expert{i}" for i in range(args.experts)]
    if args.merge or args.idle:  # the measured process
        if args.merge:
            merge(args.merge, experts)
        print(peak_kib())
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        root = Path(folder)
        for seed, name in enumerate(["base", *experts]):
            size = write_model(root / name, args, seed)
        largest = max(
            2 * torch.Size(s).numel() for _, s in shapes(args.gib, args.hidden, args.vocabulary)
        )
        _, idle = measured("--idle")
        seconds, peak = measured("--merge", str(root), "--experts", str(args.experts))
        print(f"one model: {size / GIB:.2f} GiB in bfloat16; experts: {args.experts}")
        print(f"largest tensor: {largest / GIB:.3f} GiB")
        print(f"imports alone, peak resident: {idle:.2f} GiB")
        print(f"merge and export, peak resident: {peak:.2f} GiB in {seconds:.0f} s")
        print(
            f"above the imports: {peak - idle:.2f} GiB, {(peak - idle) / (size / GIB):.2f} models"
        )


if __name__ == "__main__":
    main()
