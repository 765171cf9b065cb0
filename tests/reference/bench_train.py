"""One training step of ABN in PyTorch, for `cargo xtask bench train --against-pytorch PYTHON`.

    python bench_train.py NETWORK [--threads 2]

Reads lines from standard input: `step N` runs N steps and prints {"seconds": [...]}; `quit` prints
{"peak_rss_bytes": ...} (null where the system does not say) and ends. A step is forward, both branches' cross-entropy summed, backward, SGD with momentum;
eager, float32, 100 classes, 32×32. The driver decides when steps run, so that two implementations can alternate.
"""

import argparse
import time

import torch

import models
import worker

CLASSES = 100
# The driver names the network and the batch.
BUILDERS = {
    "resnet20": lambda: models.cifar_resnet(20, CLASSES),
    "resnet110": lambda: models.cifar_resnet(110, CLASSES),
    "wrn-16-4": lambda: models.WideResNet(16, 4, CLASSES),
    "resnext29-8x64d": lambda: models.CifarResNeXt(29, 8, 4, CLASSES),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=BUILDERS)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    net = models.initialise(BUILDERS[args.network]()).train()
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(args.batch, 3, 32, 32)
    labels = torch.randint(CLASSES, (args.batch,))

    def step():
        start = time.perf_counter()
        optimizer.zero_grad()
        models.loss(net(images), labels)[0].backward()
        optimizer.step()
        return time.perf_counter() - start

    worker.serve(args.network, step)


if __name__ == "__main__":
    main()
