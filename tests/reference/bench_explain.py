"""Grad-CAM of the `grad-cam` package (PyPI), for `cargo xtask bench explain --against-pytorch PYTHON`.

    python bench_explain.py NETWORK --size S --batch N [--threads 2] [--device cpu|cuda]

Reads lines from standard input as `bench_step.py` does. A step asks the package for the maps of a batch in one call, as its own
documentation does: a class for each image, the last block as target layer; what it returns is scaled to 0 to 1 and
enlarged to the images' size. Float32, 100 classes, plain networks without attention branch, evaluation mode.
"""

import argparse
import time

import torch
import torchvision
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

import models
import worker

CLASSES = 100


class Logits(nn.Module):
    """The class scores alone, which is what the package expects a model to give."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)[1]


def build(name):
    """The model and the layer whose output is its last feature map."""
    if name == "resnet20":
        net = models.initialise(models.cifar_resnet(20, CLASSES, abn=False))
        return Logits(net), net.layer3[-1]
    net = torchvision.models.resnet18(weights=None, num_classes=CLASSES)
    return net, net.layer4[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["resnet20", "resnet18"])
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    model, layer = build(args.network)
    model.to(args.device)
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    targets = [ClassifierOutputTarget(i * 37 % CLASSES) for i in range(args.batch)]
    with GradCAM(model.eval(), [layer]) as cam:

        def step():
            start = time.perf_counter()
            maps = cam(input_tensor=images, targets=targets)
            assert maps.shape == (args.batch, args.size, args.size)
            return time.perf_counter() - start

        worker.serve(args.network, step, args.device)


if __name__ == "__main__":
    main()
