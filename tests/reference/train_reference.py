"""Trains ResNet-20, ABN or baseline, on the embedded Fashion-MNIST subset, to have numbers to compare with.

    python train_reference.py --variant abn --seeds 0 1 2

The recipe: 10 epochs, batch 64, SGD with momentum 0.9 and weight decay 1e-4, lr 0.1 divided by 10 after epochs 5 and 7,
4-pixel zero padding with random crop, horizontal flip; evaluated after the last epoch.
"""

import argparse
import gzip
import pathlib
import time

import numpy as np
import torch

import models

DATA = pathlib.Path(__file__).resolve().parents[2] / "datasets" / "fashion-mnist"
MEAN, STD = 0.2860, 0.3530
EPOCHS, BATCH, LR, MILESTONES = 10, 64, 0.1, (5, 7)


def read(split):
    """(N, 1, 32, 32) pixels in 0..1, zero-padded, and (N) labels."""
    pixels = gzip.decompress((DATA / f"{split}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((DATA / f"{split}-labels-idx1-ubyte.gz").read_bytes())[8:]
    images = torch.from_numpy(np.frombuffer(pixels, np.uint8).reshape(-1, 1, 28, 28).copy())
    images = torch.nn.functional.pad(images, (2, 2, 2, 2))
    return images.float() / 255, torch.from_numpy(np.frombuffer(labels, np.uint8).astype(np.int64))


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
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


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


def train(variant, seed, epochs):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    images, labels = read("train")
    net = models.initialise(models.cifar_resnet(20, 10, abn=variant == "abn"))
    optimizer = torch.optim.SGD(net.parameters(), LR, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, MILESTONES, gamma=0.1)
    for epoch in range(1, epochs + 1):
        net.train()
        start, losses = time.perf_counter(), 0.0
        for indices in torch.randperm(len(images), generator=generator).split(BATCH):
            batch = normalise(augment(images[indices], generator))
            total, _, _ = models.loss(net(batch), labels[indices])
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            losses += total.item() * len(indices)
        schedule.step()
        speed = len(images) / (time.perf_counter() - start)
        print(f"  epoch {epoch}: training loss {losses / len(images):.4f}, {speed:.0f} images/s", flush=True)
    perception, attention = evaluate(net, *read("t10k"))
    branch = "" if attention is None else f" (attention branch {attention:.2f} %)"
    print(f"{variant}, seed {seed}: test error {perception:.2f} %{branch}", flush=True)
    return perception


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=["abn", "baseline"], default="abn")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    errors = [train(args.variant, seed, args.epochs) for seed in args.seeds]
    print(f"{args.variant}: mean test error {sum(errors) / len(errors):.2f} %")


if __name__ == "__main__":
    main()
