"""Makes parity fixtures, NAME.json + NAME.safetensors, and checks given ones against our definitions.

    python make_fixtures.py --out DIR --arch resnet --depth 56
    python make_fixtures.py --out DIR --arch wrn --depth 10 --widen-factor 3
    python make_fixtures.py --out DIR --arch resnext --depth 29 --cardinality 4 --widen-factor 4
    python make_fixtures.py --out DIR --arch densenet --depth 40 --growth-rate 8
    python make_fixtures.py --out DIR --arch resnet --depth 14 --kind control
    python make_fixtures.py --out DIR --arch se_resnet_18 --batch 2 --image-size 64 --lr 0.001 --steps 3
    python make_fixtures.py --out DIR --arch resnet50 --batch 2 --image-size 64 --lr 0.001 --steps 3
    python make_fixtures.py --out DIR --arch vgg11_bn --torchvision --image-size 32 --lr 0.001 --steps 3
    python make_fixtures.py --out DIR --arch mtabn_v1_resnet34 --classes 5 --residual --batch 2 --lr 0.001 --steps 3
    python make_fixtures.py --out DIR --arch mtabn_chainer_resnet18 --categories 2 5 3 --batch 3 --image-size 64
    python make_fixtures.py --check tests/fixtures

Weights and inputs are defined by a hash of their names (see `values`), so a fixture holds results only: computed in
float64; `float32_deviation` says how far PyTorch's own float32 strays from them.
"""

import argparse
import json
import math
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

import models

# Gradients that are stored whole, if small enough; of all others only the norm is.
STORED_GRADIENTS = [
    "conv1.weight", "conv_1_3x3.weight", "features.0.weight", "features.conv0.weight", "layer2.0.conv1.weight", "fc.weight", "classifier.weight",
    "att_conv.weight", "att_conv2.weight", "att_conv3.weight", "bn_att3.weight",
    "conv_att.weight", "output_per.0.weight",
]  # fmt: skip
STORED_LIMIT = 25_000


def hashes(name, count):
    """splitmix64 of a counter that starts at FNV-1a-64 of the name."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def values(name, shape, scale, offset=0.0):
    """Uniform in offset ± scale, rounded to float32."""
    u = (hashes(name, math.prod(shape)) >> np.uint64(40)).astype(np.float64) / 2**24
    return torch.from_numpy((offset + (2 * u - 1) * scale).astype(np.float32).reshape(shape))


def fill(net):
    norms = {name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)}
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            shape = tuple(parameter.shape)
            owner, _, leaf = name.rpartition(".")
            scale, offset = 0.1, 0.0
            if owner in norms and leaf == "weight":
                scale, offset = 0.2, 1.0
            elif len(shape) == 4:
                scale = math.sqrt(6 / math.prod(shape[1:]))
            elif len(shape) == 2:
                scale = math.sqrt(1 / shape[1])
            parameter.copy_(values(name, shape, scale, offset))
    return net


def network(spec, dtype):
    net = models.build(spec["config"], spec["kind"], spec["num_classes"])
    named = net.net if isinstance(net, (models.Torchvision, models.Cam)) else net
    for module in named.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = spec["bn_momentum"]
    fill(named)
    return net.to(dtype), named.to(dtype)


def norms(tensors):
    return {name: None if t is None else float(t.detach().double().norm()) for name, t in tensors}


def statistics(net):
    return [(name, b) for name, b in net.named_buffers() if not name.endswith("num_batches_tracked")]


def outputs(prefix, output):
    names = ("att_logits", "per_logits", "attention")
    return {f"{prefix}.{n}": t.detach().clone() for n, t in zip(names, output) if t is not None}


def number(x):
    return None if x is None else x.item()


def compute(spec, dtype):
    """(numbers for the json, tensors): the design's order of events."""
    net, named = network(spec, dtype)
    size, batch, classes = spec["image_size"], spec["batch"], spec["num_classes"]
    image = values("input", (batch, 3, size, size), 1.7).to(dtype)
    if spec["kind"].startswith("multitask"):
        answers = np.array(spec["config"].get("categories", [2] * classes), dtype=np.uint64)
        target = torch.from_numpy((hashes("target", batch * classes).reshape(batch, -1) % answers).astype(np.int64))
    else:
        target = torch.from_numpy((hashes("target", batch) % np.uint64(classes)).astype(np.int64))
    loss = net.loss if isinstance(net, models.MultiTask) else models.loss
    facts = {
        "parameters": {name: list(p.shape) for name, p in named.named_parameters()},
        "buffers": {name: list(b.shape) for name, b in statistics(named)},
        "parameter_count": sum(p.numel() for p in named.parameters()),
    }

    net.train()
    output = net(image)
    tensors = outputs("train", output)
    loss(output, target)[0].backward()
    # A parameter that the loss does not depend on has no gradient (null), and SGD leaves it alone.
    gradients = {name: p.grad for name, p in named.named_parameters()}
    facts["grad_l2"] = norms(gradients.items())
    for name in STORED_GRADIENTS:
        if gradients.get(name) is not None and gradients[name].numel() <= STORED_LIMIT:
            tensors[f"grad.{name}"] = gradients[name].clone()
    facts["buffer_l2_after_first_forward"] = norms(statistics(named))

    net.eval()
    with torch.no_grad():
        tensors |= outputs("eval", net(image))

    net.train()
    sgd = spec["sgd"]
    optimizer = torch.optim.SGD(
        net.parameters(), sgd["lr"], momentum=sgd["momentum"], weight_decay=sgd["weight_decay"]
    )
    facts["loss_trajectory"] = []
    for _ in range(sgd["steps"]):
        optimizer.zero_grad()
        total, attention, perception = loss(net(image), target)
        losses = {"att": number(attention), "per": number(perception), "total": number(total)}
        facts["loss_trajectory"].append(losses)
        total.backward()
        optimizer.step()
    facts["param_l2_after"] = norms(named.named_parameters())
    return facts, tensors


def distance(a, b):
    """‖a − b‖ / ‖b‖"""
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-300))


def norm_distance(a, b):
    if a is None or b is None:
        return 0.0 if a is b else math.inf
    # A norm that is nothing but rounding (a bias before batch norm) has no relative error.
    return abs(a - b) / max(abs(b), 1e-6)


def trajectory_distance(a, b):
    pairs = [(x[key], y[key]) for x, y in zip(a, b) for key in y if y[key] is not None]
    return max(abs(x - y) / abs(y) for x, y in pairs)


def make(spec):
    facts, tensors = compute(spec, torch.float64)
    facts32, tensors32 = compute(spec, torch.float32)
    deviation = {name: distance(tensors32[name], t) for name, t in tensors.items()}
    deviation["loss_trajectory"] = trajectory_distance(facts32["loss_trajectory"], facts["loss_trajectory"])
    return spec | facts | {"float32_deviation": deviation}, tensors


def write(folder, document, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / document["name"]
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    save_file({name: t.float().numpy() for name, t in tensors.items()}, path.with_suffix(".safetensors"))
    print(f"{path}: {document['parameter_count']:,} parameters")


SPEC_KEYS = ["name", "kind", "config", "batch", "image_size", "num_classes", "bn_momentum", "sgd"]


def check(folder, only):
    """Recomputes every fixture of a network we define; the number that disagree."""
    failures = 0
    for path in sorted(pathlib.Path(folder).glob("*.json")):
        document = json.loads(path.read_text())
        if only and document["name"] not in only:
            continue
        spec = {key: document[key] for key in SPEC_KEYS if key in document}
        try:
            models.build(spec["config"], spec["kind"], spec["num_classes"])
        except (SystemExit, KeyError, ValueError):
            print(f"{path.stem:28} skipped: no definition of {spec['kind']} {spec['config']}")
            continue
        facts, tensors = compute(spec, torch.float64)
        given = {n: torch.from_numpy(t) for n, t in load_file(path.with_suffix(".safetensors")).items()}
        wrong = [key for key in ("parameters", "buffers", "parameter_count") if facts[key] != document[key]]
        worst = {}
        for key in ("grad_l2", "buffer_l2_after_first_forward", "param_l2_after"):
            worst[key] = max(norm_distance(facts[key].get(n, math.nan), v) for n, v in document[key].items())
        worst["loss_trajectory"] = trajectory_distance(facts["loss_trajectory"], document["loss_trajectory"])
        wrong += [f"{name} missing" for name in given if name not in tensors]
        worst["tensors"] = max(distance(tensors[n], t) for n, t in given.items() if n in tensors)
        # Norms are stored in float64, tensors in float32.
        bounds = dict.fromkeys(worst, 1e-6)
        wrong += [key for key, value in worst.items() if not value <= bounds[key]]
        failures += bool(wrong)
        summary = ", ".join(f"{key} {value:.1e}" for key, value in worst.items())
        print(f"{path.stem:28} {'DISAGREES: ' + ', '.join(wrong) if wrong else 'agrees'} ({summary})")
        sys.stdout.flush()
    return failures


SIZES = ("depth", "cardinality", "widen_factor", "base_width", "growthRate")


def spec_of(args):
    config = {"arch": args.arch}
    for key in ("depth", "widen_factor", "cardinality", "base_width"):
        if getattr(args, key) is not None:
            config[key] = getattr(args, key)
    if args.growth_rate is not None:
        config |= {"growthRate": args.growth_rate, "compressionRate": 2}
    multitask = args.arch.startswith("mtabn_")
    kind = "baseline" if args.torchvision else args.kind
    if multitask:
        kind = "multitask_baseline" if args.kind == "baseline" else "multitask"
        config["residual_attention"] = args.residual
        if args.categories:
            config["categories"] = args.categories
    if args.torchvision:
        config["source"] = "torchvision"
    family = "tv" if args.torchvision else "imagenet" if args.arch[-1].isdigit() else "cifar"
    size = args.image_size or (32 if family == "cifar" else 224)
    numbers = "".join(f"_{config[key]}" for key in SIZES if key in config)
    suffix = "" if args.torchvision else f"_{kind}"
    if multitask:
        family, suffix = "unseen", f"_{kind}" + "_residual" * args.residual + "".join(f"_{k}" for k in args.categories or [])
    return {
        "name": args.name or f"{family}_{args.arch}{numbers}{suffix}",
        "kind": kind,
        "config": config,
        "batch": args.batch,
        "image_size": size,
        "num_classes": len(args.categories) if args.categories else args.classes,
        "bn_momentum": 1.0,
        "sgd": {"lr": args.lr, "momentum": 0.9, "weight_decay": 1e-4, "steps": args.steps},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="DIR", help="recompute the fixtures there and report agreement")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="with --check: only these")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="folder to write to")
    parser.add_argument("--arch", help="resnet, wrn, resnext, densenet; resnet18 …, se_resnet_18 …; mtabn_v1_resnet18 …, mtabn_chainer_resnet18 …; a torchvision name")
    parser.add_argument("--torchvision", action="store_true", help="torchvision's network of that name")
    parser.add_argument("--kind", choices=["abn", "baseline", "cam", "control"], default="abn")
    for option in ("--depth", "--widen-factor", "--cardinality", "--base-width", "--growth-rate", "--image-size"):
        parser.add_argument(option, type=int)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--classes", type=int, default=10, help="number of classes, or of tasks (mtabn_…)")
    parser.add_argument("--categories", type=int, nargs="+", help="mtabn_…: number of answers of each task")
    parser.add_argument("--residual", action="store_true", help="mtabn_…: g·(1+M) instead of g·M")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--name")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.check:
        sys.exit(1 if check(args.check, args.only) else 0)
    if args.out is None or args.arch is None:
        parser.error("either --check DIR, or --out DIR and --arch")
    write(args.out, *make(spec_of(args)))


if __name__ == "__main__":
    main()
