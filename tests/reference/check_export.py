"""Loads what `abn export` writes into PyTorch, and compares the logits with ours.

    cargo build -p abn-train --bin abn --example logits
    python check_export.py --target ../../target/debug RUN …

For each run: both exports, `torch.load(weights_only=True)` and safetensors, a strict `load_state_dict` into the network
of models.py, and the logits of two images, in float32 and float64. Exits with 1 if one differs by more than 1e-5.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file

import models
from make_weight_fixtures import images

BOUND = 1e-5


def config(model):
    """The configuration, as in the fixtures, of a network of `abn models`."""
    numbers = [int(number) for number in re.findall(r"\d+", model)]
    if model.startswith("wrn-"):
        return {"arch": "wrn", "depth": numbers[0], "widen_factor": numbers[1]}
    if model.startswith("resnext"):
        keys = ["depth", "cardinality", "base_width", "widen_factor"]
        return {"arch": "resnext", "widen_factor": 4} | dict(zip(keys, numbers))
    if model.startswith("cifar-vgg"):
        return {"arch": "cifar_vgg", "depth": numbers[0], "width": (numbers[1:] or [64])[0]}
    if model.startswith("densenet") and len(numbers) == 2:
        return {"arch": "densenet", "depth": numbers[0], "growthRate": numbers[1]}
    if model.startswith("se-resnet"):
        return {"arch": f"se_resnet_{numbers[0]}"}
    if model in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
        return {"arch": model}
    if model.removeprefix("cifar-").startswith("resnet"):
        return {"arch": "resnet", "depth": numbers[0]}
    sys.exit(f"no network for {model}")


def distance(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm())


def check(run, target):
    ours = json.loads(subprocess.check_output([target / "examples" / "logits", run]))
    net = models.build(config(ours["model"]), ours["variant"], ours["classes"]).eval()
    batch, worst = images(ours["image_size"]), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name in ("weights.pth", "weights.safetensors"):
            path = pathlib.Path(folder) / name
            subprocess.check_call([target / "abn", "export", "--checkpoint", run, "--out", path], stdout=subprocess.DEVNULL)
            state = torch.load(path, weights_only=True) if name.endswith(".pth") else load_file(path)
            for dtype in (torch.float32, torch.float64):
                net.to(dtype).load_state_dict(state, strict=True)
                with torch.no_grad():
                    scores, answer, _ = net(batch.to(dtype))
                pairs = [(ours["logits"], answer)]
                if scores is not None:
                    pairs.append((ours["attention_logits"], scores))
                distances = [distance(torch.tensor(a), b) for a, b in pairs]
                worst = max(worst, *distances)
                shown = ", ".join(f"{value:.1e}" for value in distances)
                print(f"{run}: {ours['model']} ({ours['variant']}), {name}, {dtype}: {shown}")
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=pathlib.Path, required=True, help="cargo's folder with `abn` in it")
    parser.add_argument("runs", nargs="+", metavar="RUN")
    args = parser.parse_args()
    torch.set_num_threads(1)
    worst = max(check(run, args.target) for run in args.runs)
    print(f"largest relative difference {worst:.1e}, bound {BOUND:.0e}")
    sys.exit(0 if worst <= BOUND else 1)


if __name__ == "__main__":
    main()
