"""One step of ABN in PyTorch, for `cargo xtask bench train|eval --against-pytorch PYTHON`.

    python bench_step.py NETWORK --pass train|eval --batch N [--threads 2] [--compile]

Reads lines from standard input: `step N` runs N steps and prints {"seconds": [...]}; `quit` prints
{"peak_rss_bytes": ...} (null where the system does not say) and ends. A training step is forward, both branches'
cross-entropy summed, backward, SGD with momentum; an evaluation is probabilities and attention map in
`torch.inference_mode()`. Float32, 100 classes, 32×32, eager or, with --compile, by `torch.compile`. The driver decides when
steps run, so that implementations can alternate.
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
    parser.add_argument("--pass", dest="kind", choices=["train", "eval"], required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    net = models.initialise(BUILDERS[args.network]()).train(args.kind == "train")
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(args.batch, 3, 32, 32)
    labels = torch.randint(CLASSES, (args.batch,))
    forward = torch.compile(net) if args.compile else net

    def train():
        optimizer.zero_grad()
        models.loss(forward(images), labels)[0].backward()
        optimizer.step()

    @torch.inference_mode()
    def evaluate():
        output = forward(images)
        return output[1].softmax(1), output

    def step():
        start = time.perf_counter()
        train() if args.kind == "train" else evaluate()
        return time.perf_counter() - start

    worker.serve(args.network, step)


if __name__ == "__main__":
    main()
