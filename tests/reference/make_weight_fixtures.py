"""Makes files of weights with torch.save, and the logits that a network with these weights gives.

    python make_weight_fixtures.py ../../crates/abn-train/tests/fixtures/weights
    python make_weight_fixtures.py /tmp/more --large     # ResNet-20 and torchvision's ResNet-18; not committed

`cases.json` names each file's network, and has its logits in double precision for the images of `images`. Weights are
defined by a hash (make_fixtures.py); the committed ones are of a very narrow VGG, so that the files are small.
"""

import argparse
import collections
import json
import pathlib

import torch
from safetensors.torch import save_file

import models
from make_fixtures import fill, values

CLASSES = 10


def images(size, count=2):
    """Numbers that every language computes alike."""
    i = torch.arange(count * 3 * size * size, dtype=torch.int64)
    return ((i * 7919 % 1000).float() / 500 - 1).reshape(count, 3, size, size)


def network(config, kind, classes=CLASSES):
    net = fill(models.build(config, kind, classes))
    named = net.net if isinstance(net, models.Torchvision) else net
    for name, buffer in named.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(values(name, tuple(buffer.shape), 0.1))
        elif name.endswith("running_var"):
            buffer.copy_(values(name, tuple(buffer.shape), 0.2, 1.0))
        elif name.endswith("num_batches_tracked"):
            buffer.fill_(1234)
    return net.eval(), named


def logits(net, named, state, size):
    """What the network gives with the weights as they are stored."""
    named.double().load_state_dict({name: t.double() if t.is_floating_point() else t for name, t in state.items()})
    with torch.no_grad():
        scores, answer, _ = net.double()(images(size).double())
    return {"attention_logits": None if scores is None else scores.tolist(), "logits": answer.tolist()}


def checkpoint(named, state):
    """What the authors' training script saves: DataParallel's names, and more than the weights."""
    optimizer = torch.optim.SGD(named.parameters(), 0.1, momentum=0.9)
    for parameter in named.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {
        "epoch": 300,
        "arch": "vgg",
        "state_dict": collections.OrderedDict((f"module.{name}", t) for name, t in state.items()),
        "acc": torch.tensor(61.5),
        "best_acc": 62.25,
        "optimizer": optimizer.state_dict(),
    }


def as_views(state):
    """The same tensors as views: pieces of one storage, transposed in memory, or wrapped as parameters."""
    flat = torch.cat([torch.zeros(3)] + [t.flatten() for t in state.values() if t.is_floating_point()])
    views, offset = collections.OrderedDict(), 3
    for index, (name, tensor) in enumerate(state.items()):
        if not tensor.is_floating_point():
            views[name] = tensor
            continue
        piece = flat[offset : offset + tensor.numel()].view(tensor.shape)
        offset += tensor.numel()
        if tensor.dim() == 4:
            piece = piece.contiguous(memory_format=torch.channels_last)
        elif tensor.dim() == 2:
            piece = piece.t().contiguous().t()
        elif index % 3 == 0:
            piece = torch.stack([piece, -piece], 1)[:, 0]  # every other number
        elif index % 3 == 1:
            piece = torch.nn.Parameter(piece)
        assert torch.equal(piece, tensor), name
        views[name] = piece
    return views


def tensors(state, dtype):
    return collections.OrderedDict((n, t.to(dtype) if t.is_floating_point() else t) for n, t in state.items())


class Folder:
    def __init__(self, path):
        self.path, self.cases = path, []
        path.mkdir(parents=True, exist_ok=True)

    def save(self, name, model, kind, config, legacy=False, change=None, wrap=None, classes=CLASSES, size=32):
        net, named = network(config, kind, classes)
        state = collections.OrderedDict((n, t.clone()) for n, t in named.state_dict().items())
        state = change(state) if change else state
        content = wrap(named, state) if wrap else state
        path = self.path / name
        if name.endswith(".safetensors"):
            save_file(content, path)
        else:
            torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        case = {"file": name, "model": model, "variant": kind, "classes": classes, "image_size": size}
        self.cases.append(case | logits(net, named, state, size))
        print(f"{path}: {path.stat().st_size:,} bytes")

    def close(self):
        (self.path / "cases.json").write_text(json.dumps(self.cases, indent=1) + "\n")


def small(folder):
    vgg = {"arch": "cifar_vgg", "depth": 11, "width": 1}
    name = "cifar-vgg11-bn-w1"
    folder.save("model_best.pth.tar", name, "abn", vgg, legacy=True, wrap=checkpoint)
    folder.save("zip.pth", name, "abn", vgg)
    folder.save("zip-checkpoint.pth", name, "baseline", vgg, wrap=checkpoint)
    folder.save("legacy-baseline.pth", name, "baseline", vgg, legacy=True)
    folder.save("zip-views.pth", name, "abn", vgg, change=as_views)
    folder.save("legacy-views.pth", name, "abn", vgg, change=as_views, legacy=True)
    folder.save("zip-double.pth", name, "baseline", vgg, change=lambda s: tensors(s, torch.float64))
    folder.save("zip-half.pth", name, "abn", vgg, change=lambda s: tensors(s, torch.float16))
    folder.save("legacy-bfloat16.pth", name, "abn", vgg, change=lambda s: tensors(s, torch.bfloat16), legacy=True)
    folder.save("plain.safetensors", name, "abn", vgg)
    folder.save("half.safetensors", name, "abn", vgg, change=lambda s: tensors(s, torch.bfloat16))


def large(folder):
    resnet20 = {"arch": "resnet", "depth": 20}
    folder.save("resnet20.pth.tar", "resnet20", "abn", resnet20, legacy=True, wrap=checkpoint)
    folder.save("resnet20.pth", "resnet20", "abn", resnet20)
    wrn = {"arch": "wrn", "depth": 16, "widen_factor": 2}
    folder.save("wrn.pth", "wrn-16-2", "abn", wrn)
    resnext = {"arch": "resnext", "depth": 11, "cardinality": 2, "widen_factor": 1, "base_width": 8}
    folder.save("resnext.pth.tar", "resnext11-2x8d-k1", "abn", resnext, legacy=True, wrap=checkpoint)
    densenet = {"arch": "densenet", "depth": 22, "growthRate": 12}
    folder.save("densenet.pth", "densenet22-k12", "abn", densenet)
    folder.save("se.pth.tar", "se-resnet18", "abn", {"arch": "se_resnet_18"}, legacy=True, wrap=checkpoint, size=64)
    densenet121 = {"arch": "densenet121", "source": "torchvision"}
    folder.save("densenet121.pth", "densenet121", "baseline", densenet121, classes=1000, size=64)
    resnet18 = {"arch": "resnet18"}
    folder.save("resnet18-abn.pth.tar", "resnet18", "abn", resnet18, legacy=True, wrap=checkpoint, classes=1000, size=64)
    torchvision = {"arch": "resnet18", "source": "torchvision"}
    folder.save("resnet18.pth", "resnet18", "baseline", torchvision, classes=1000, size=64)
    folder.save("vgg11_bn.pth", "vgg11-bn", "baseline", {"arch": "vgg11_bn", "source": "torchvision"}, classes=7, size=64)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--large", action="store_true", help="other networks, of megabytes")
    args = parser.parse_args()
    folder = Folder(args.folder)
    (large if args.large else small)(folder)
    folder.close()


if __name__ == "__main__":
    main()
