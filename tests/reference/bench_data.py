"""Epochs of torchvision's usual ImageNet training pipeline over a folder, for `cargo xtask bench data`.

    python bench_data.py ROOT --batch 64 --workers 2

ImageFolder decodes with PIL; DataLoader's workers are kept from epoch to epoch. Reads `step N` lines
from standard input and answers each with the seconds of N epochs; `quit` ends it.
"""

import argparse
import json
import sys
import time

import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from bench_train import peak_rss_bytes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)

    data = ImageFolder(args.root, transforms.Compose([
        transforms.Resize((256, 256)),
        transforms.RandomCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]))
    loader = DataLoader(data, args.batch, shuffle=True, num_workers=args.workers, persistent_workers=args.workers > 0)

    def epoch():
        start = time.perf_counter()
        count = sum(len(labels) for _, labels in loader)
        assert count == len(data)
        return time.perf_counter() - start

    print(json.dumps({"ready": args.root, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        command = line.split()
        if command == ["quit"]:
            break
        if len(command) != 2 or command[0] != "step":
            sys.exit(f"expected `step N` or `quit`, got {line!r}")
        print(json.dumps({"seconds": [epoch() for _ in range(int(command[1]))]}), flush=True)
    print(json.dumps({"peak_rss_bytes": peak_rss_bytes()}), flush=True)


if __name__ == "__main__":
    main()
