"""Makes the fixtures of abn-explain: maps of the `grad-cam` package (PyPI) on hash-defined weights.

    python make_explain_fixtures.py --out ../fixtures/explain

Each NAME.safetensors holds, in float64, MAP@LAYER (N, h, w) before any scaling or enlargement for MAP in grad-cam,
grad-cam++, layer-cam, and guided-backprop (N, 3, H, W); its metadata says which network, layers and classes. Running
statistics are those of the images, as after one training pass with momentum 1.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, LayerCAM
from pytorch_grad_cam.guided_backprop import GuidedBackpropReLU, GuidedBackpropReLUModel
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.numpy import save_file
from torch import nn

from make_fixtures import network, values

# Our name of a layer, and the module whose output it is.
NETWORKS = [
    {
        "name": "cifar_resnet20",
        "model": "resnet20",
        "config": {"arch": "resnet", "depth": 20},
        "image_size": 32,
        "num_classes": 10,
        "layers": {"last": "layer3.2", "layer2": "layer2.2", "layer1.1": "layer1.1", "layer2.0.conv1": "layer2.0.conv1"},
    },
    {
        "name": "tv_vgg16_bn",
        "model": "vgg16-bn",
        "config": {"arch": "vgg16_bn", "source": "torchvision"},
        "image_size": 64,
        "num_classes": 10,
        "layers": {"last": "features.42", "features.40": "features.40", "features.20": "features.20"},
    },
    {
        "name": "tv_resnet18",
        "model": "resnet18",
        "config": {"arch": "resnet18", "source": "torchvision"},
        "image_size": 96,
        "num_classes": 10,
        "layers": {"last": "layer4.1", "layer3.0": "layer3.0", "layer4.0.conv2": "layer4.0.conv2"},
    },
    {
        "name": "cifar_resnet20_abn_perception",
        "model": "resnet20",
        "kind": "abn",
        "branch": "perception",
        "config": {"arch": "resnet", "depth": 20},
        "image_size": 32,
        "num_classes": 10,
        # The extractor's map reaches the answer by itself and by the attention map.
        "layers": {"last": "layer3.2", "layer3.0": "layer3.0", "extractor": "layer2", "attention_trunk": "att_layer3"},
    },
    {
        "name": "cifar_resnet20_abn_attention",
        "model": "resnet20",
        "kind": "abn",
        "branch": "attention",
        "config": {"arch": "resnet", "depth": 20},
        "image_size": 32,
        "num_classes": 10,
        "layers": {"attention_trunk": "att_layer3", "att_layer3.0": "att_layer3.0", "extractor": "layer2"},
    },
]
METHODS = {"grad-cam": GradCAM, "grad-cam++": GradCAMPlusPlus, "layer-cam": LayerCAM}
CLASSES = [7, 2]


class Logits(nn.Module):
    """The class scores of one branch alone, which is what the package expects a model to give."""

    def __init__(self, net, branch):
        super().__init__()
        self.net, self.output = net, {"attention": 0, "perception": 1}[branch]

    def forward(self, x):
        return self.net(x)[self.output]


def maps(model, module, image):
    found = {}
    for name, method in METHODS.items():
        with method(model, [module]) as cam:
            targets = [ClassifierOutputTarget(c) for c in CLASSES]
            cam(input_tensor=image, targets=targets)
            recorded = cam.activations_and_grads
            a, g = (t[0].detach().numpy() for t in (recorded.activations, recorded.gradients))
            raw = cam.get_cam_image(image, module, targets, a, g, False)
            found[name] = np.ascontiguousarray(np.maximum(raw, 0))  # as the package does next
    return found


def guided(model, image):
    """The package replaces ReLU modules; networks that call torch.relu get its function there."""
    plain, torch.relu = torch.relu, GuidedBackpropReLU.apply
    try:
        explainer = GuidedBackpropReLUModel(model, "cpu")
        rows = [explainer(image[i : i + 1].clone(), c).transpose(2, 0, 1) for i, c in enumerate(CLASSES)]
    finally:
        torch.relu = plain
    return np.ascontiguousarray(np.stack(rows))


def make(spec, out):
    net, named = network({"kind": "baseline", "bn_momentum": 1.0} | spec, torch.float64)
    size = spec["image_size"]
    image = values("input", (len(CLASSES), 3, size, size), 1.7).double()
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    net.train()
    with torch.no_grad():
        net(image)
    model = Logits(net, spec.get("branch", "perception")).eval()
    modules = dict(named.named_modules())
    tensors = {}
    for ours, theirs in spec["layers"].items():
        tensors |= {f"{name}@{ours}": map for name, map in maps(model, modules[theirs], image).items()}
    tensors["guided-backprop"] = guided(model, image)
    facts = {key: spec[key] for key in ("name", "model", "kind", "branch", "image_size", "num_classes") if key in spec}
    facts |= {"classes": CLASSES, "layers": list(spec["layers"])}
    save_file(tensors, out / f"{spec['name']}.safetensors", metadata={"explain": json.dumps(facts)})
    print(spec["name"], {name: (t.shape, float(np.abs(t).max())) for name, t in tensors.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for spec in NETWORKS:
        make(spec, out)


if __name__ == "__main__":
    main()
