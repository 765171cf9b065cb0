"""One step of ABN in PyTorch, for `cargo xtask bench train|eval --against-pytorch PYTHON`.

    python bench_step.py NETWORK --pass train|eval --batch N [--size 32] [--threads 2] [--compile [MODE]]
        [--device cpu|cuda] [--precision f32|tf32|bf16] [--channels-last]

Reads lines from standard input: `step N` runs N steps and prints {"seconds": [...]}; `quit` prints
{"peak_rss_bytes": ...} (null where the system does not say) and ends. A training step is forward, both branches'
cross-entropy summed, backward, SGD with momentum; an evaluation is probabilities and attention map in
`torch.inference_mode()`. 100 classes, eager or, with --compile, by `torch.compile`. On a GPU cuDNN measures its algorithms
(`cudnn.benchmark`); bf16 is by autocast. The driver decides when steps run, so that implementations can alternate.
"""

import argparse
import time

import torch

import models
import worker

CLASSES = 100
# The driver names the network and the batch.
BUILDERS = {
    "resnet8": lambda: models.cifar_resnet(8, CLASSES),
    "resnet20": lambda: models.cifar_resnet(20, CLASSES),
    "resnet110": lambda: models.cifar_resnet(110, CLASSES),
    "resnet50": lambda: models.imagenet_resnet(50, CLASSES),
    "wrn-16-4": lambda: models.WideResNet(16, 4, CLASSES),
    "wrn-28-10": lambda: models.WideResNet(28, 10, CLASSES),
    "resnext29-8x64d": lambda: models.CifarResNeXt(29, 8, 4, CLASSES),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=BUILDERS)
    parser.add_argument("--pass", dest="kind", choices=["train", "eval"], required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--compile", nargs="?", const="default", metavar="MODE")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["f32", "tf32", "bf16"], default="tf32")
    parser.add_argument("--channels-last", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    tf32 = args.precision != "f32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32

    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    net = models.initialise(BUILDERS[args.network]()).train(args.kind == "train")
    net = net.to(args.device, memory_format=layout)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device).to(memory_format=layout)
    labels = torch.randint(CLASSES, (args.batch,), device=args.device)
    answer = torch.compile(net, mode=args.compile) if args.compile else net

    def forward(images):
        with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=args.precision == "bf16"):
            return answer(images)

    def train():
        optimizer.zero_grad()
        scores, logits, attention = forward(images)
        models.loss((scores.float(), logits.float(), attention), labels)[0].backward()
        optimizer.step()

    @torch.inference_mode()
    def evaluate():
        output = forward(images)
        return output[1].softmax(1), output

    def step():
        start = time.perf_counter()
        train() if args.kind == "train" else evaluate()
        return time.perf_counter() - start

    worker.serve(args.network, step, args.device)


if __name__ == "__main__":
    main()
