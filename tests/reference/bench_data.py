"""Epochs of torchvision's usual ImageNet training pipeline over a folder, for `cargo xtask bench data`.

    python bench_data.py ROOT --batch 64 --workers 2

ImageFolder decodes with PIL; DataLoader's workers are kept from epoch to epoch. Reads `step N` lines
from standard input and answers each with the seconds of N epochs; `quit` ends it.
"""

import argparse
import time

import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

import worker


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

    worker.serve(args.root, epoch)


if __name__ == "__main__":
    main()
