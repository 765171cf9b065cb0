"""Trains ResNet-20, ABN or baseline, on Fashion-MNIST, to have numbers to compare with.

    python train_reference.py --variant abn --seeds 0 1 2
    python train_reference.py --variant abn --seeds 0 --data DIR --epochs 30 --batch 128 --milestones 15 22 --device cuda

The recipe: 10 epochs, batch 64, SGD with momentum 0.9 and weight decay 1e-4, lr 0.1 divided by 10 after epochs 5 and 7,
4-pixel zero padding with random crop, horizontal flip; evaluated after the last epoch. The data are the embedded subset, or
the four files in DIR, plain or gzipped. --json writes what the last seed came to, for `cargo xtask gpu-check`. On a GPU the images
lie there, and cuDNN measures its algorithms.
"""

import argparse
import gzip
import json
import pathlib
import time

import numpy as np
import torch

import models

EMBEDDED = pathlib.Path(__file__).resolve().parents[2] / "datasets" / "fashion-mnist"
MEAN, STD = 0.2860, 0.3530


def idx(folder, name):
    """The bytes of an idx file, header included."""
    plain = folder / name
    return plain.read_bytes() if plain.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())


def read(folder, split, device):
    """(N, 1, 32, 32) pixels in 0..1, zero-padded, and (N) labels."""
    pixels = idx(folder, f"{split}-images-idx3-ubyte")[16:]
    labels = idx(folder, f"{split}-labels-idx1-ubyte")[8:]
    images = torch.from_numpy(np.frombuffer(pixels, np.uint8).reshape(-1, 1, 28, 28).copy())
    images = torch.nn.functional.pad(images, (2, 2, 2, 2))
    labels = torch.from_numpy(np.frombuffer(labels, np.uint8).astype(np.int64))
    return (images.float() / 255).to(device), labels.to(device)


def normalise(images):
    """Grey in 0..1 to three normalised channels."""
    return ((images - MEAN) / STD).expand(-1, 3, -1, -1).contiguous()


def augment(images, generator):
    """Each image's own crop of itself padded by 4, and a flip of every second."""
    count = len(images)
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))[:, 0]
    span = torch.arange(32)
    rows = torch.randint(9, (count, 1), generator=generator) + span
    columns = torch.randint(9, (count, 1), generator=generator) + span
    flipped = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(flipped, columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    return padded[torch.arange(count, device=images.device)[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


def error(scores, labels):
    return 100 * (scores.argmax(1) != labels).float().mean().item()


def evaluate(net, images, labels):
    """Test error of (perception, attention or None), in percent."""
    net.eval()
    with torch.no_grad():
        batches = [net(normalise(batch)) for batch in images.split(200)]
    attention = None
    if batches[0][0] is not None:
        attention = error(torch.cat([b[0] for b in batches]), labels)
    return error(torch.cat([b[1] for b in batches]), labels), attention


def train(args, seed):
    """What a run came to; errors in percent."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images, labels = read(args.data, "train", args.device)
    net = models.initialise(models.cifar_resnet(args.depth, 10, abn=args.variant == "abn")).to(args.device)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, args.milestones, gamma=0.1)
    seconds = 0.0
    for epoch in range(1, args.epochs + 1):
        net.train()
        start, losses = time.perf_counter(), torch.zeros((), device=args.device)
        for indices in torch.randperm(len(images), generator=generator).split(args.batch):
            indices = indices.to(args.device)
            batch = normalise(augment(images[indices], generator))
            total, _, _ = models.loss(net(batch), labels[indices])
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            losses += total.detach() * len(indices)
        schedule.step()
        loss = losses.item() / len(images)
        took = time.perf_counter() - start
        seconds += took
        print(f"  epoch {epoch}: training loss {loss:.4f}, {len(images) / took:.0f} images/s", flush=True)
    perception, attention = evaluate(net, *read(args.data, "t10k", args.device))
    branch = "" if attention is None else f" (attention branch {attention:.2f} %)"
    print(f"{args.variant}, seed {seed}: test error {perception:.2f} %{branch}", flush=True)
    speed = args.epochs * len(images) / seconds
    return {"torch": torch.__version__, "test_error": perception, "seconds": seconds, "images_per_second": speed}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=["abn", "baseline"], default="abn")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", type=pathlib.Path, default=EMBEDDED, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--milestones", type=int, nargs="*", default=[5, 7])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    runs = [train(args, seed) for seed in args.seeds]
    mean = sum(run["test_error"] for run in runs) / len(runs)
    print(f"{args.variant}: mean test error {mean:.2f} %")
    if args.json:
        args.json.write_text(json.dumps(runs[-1]) + "\n")


if __name__ == "__main__":
    main()
