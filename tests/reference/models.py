"""Attention Branch Networks in PyTorch, with the parameter names of the authors' released code.

Written for this project as a reference to compare with. Every network takes (N, 3, H, W) and returns
(attention logits or None, perception logits, attention map or None); pooling is global, so any input size works.
"""

import math

import torch
from torch import nn


def conv3x3(inputs, outputs, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False)


def conv1x1(inputs, outputs, stride=1):
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)


def global_pool(x):
    return x.mean((2, 3))


class AttentionHead(nn.Module):
    """Mixin: the layers from the attention trunk to the class scores and the map.

    A mixin, not a child, because the authors' names have no prefix (`att_conv.weight`).
    """

    def make_head(self, channels, classes, apply_first_norm=True, log_sum=False):
        self.bn_att = nn.BatchNorm2d(channels)
        self.att_conv = conv1x1(channels, classes)
        self.bn_att2 = nn.BatchNorm2d(classes)
        self.att_conv2 = conv1x1(classes, classes)
        if not log_sum:
            self.att_conv3 = nn.Conv2d(classes, 1, 3, padding=1, bias=False)
            self.bn_att3 = nn.BatchNorm2d(1)
        # CIFAR ResNeXt has `bn_att` among its parameters, but does not use it.
        self.apply_first_norm = apply_first_norm
        # SE-ResNet's map is a sum of logarithms instead.
        self.log_sum = log_sum
        # The control: a map that is always zero.
        self.held = False

    def attend(self, trunk):
        if self.apply_first_norm:
            trunk = self.bn_att(trunk)
        h = torch.relu(self.bn_att2(self.att_conv(trunk)))
        scores = global_pool(self.att_conv2(h))
        if self.held:
            return scores, torch.zeros_like(h[:, :1])
        if self.log_sum:
            return scores, torch.log(1 + h).sum(1, keepdim=True)
        return scores, torch.sigmoid(self.bn_att3(self.att_conv3(h)))


class Squeeze(nn.Module):
    """Mixin: squeeze-and-excitation at the end of a block, with layers of the block's own."""

    def make_squeeze(self, channels):
        self.fc1 = nn.Linear(channels, channels // 16)
        self.fc2 = nn.Linear(channels // 16, channels)

    def excite(self, x):
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(global_pool(x)))))
        return x * scale[:, :, None, None]


class BasicBlock(Squeeze):
    expansion = 1

    def __init__(self, inputs, planes, stride, squeeze=False):
        super().__init__()
        self.conv1 = conv3x3(inputs, planes, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes)
        self.bn2 = nn.BatchNorm2d(planes)
        self.squeeze = squeeze
        if squeeze:
            self.make_squeeze(planes)
        self.downsample = downsample(inputs, planes, stride)

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return torch.relu((self.excite(x) if self.squeeze else x) + shortcut)


class Bottleneck(Squeeze):
    expansion = 4

    def __init__(self, inputs, planes, stride, squeeze=False):
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = conv1x1(inputs, planes)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv3x3(planes, planes, stride)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = conv1x1(planes, outputs)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.squeeze = squeeze
        if squeeze:
            self.make_squeeze(outputs)
        self.downsample = downsample(inputs, outputs, stride)

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        return torch.relu((self.excite(x) if self.squeeze else x) + shortcut)


def downsample(inputs, outputs, stride):
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))


def stage(block, inputs, planes, blocks, stride, squeeze=False):
    outputs = planes * block.expansion
    rest = [block(outputs, planes, 1, squeeze) for _ in range(1, blocks)]
    return nn.Sequential(block(inputs, planes, stride, squeeze), *rest), outputs


class ResNet(AttentionHead):
    """CIFAR ResNet (three stages, no max-pool), ImageNet ResNet and SE-ResNet (four stages)."""

    def __init__(self, block, counts, planes, classes, abn, imagenet, squeeze=False):
        super().__init__()
        self.imagenet, self.abn, self.stages = imagenet, abn, len(counts)
        if imagenet:
            self.conv1 = nn.Conv2d(3, planes, 7, 2, 3, bias=False)
        else:
            self.conv1 = conv3x3(3, planes)
        self.bn1 = nn.BatchNorm2d(planes)
        channels = planes
        for i, count in enumerate(counts, 1):
            width, stride = planes << (i - 1), 1 if i == 1 else 2
            if abn and i == self.stages:
                trunk, trunk_channels = stage(block, channels, width, count, 1, squeeze)
                setattr(self, f"att_layer{i}", trunk)
                self.make_head(trunk_channels, classes, log_sum=squeeze)
            layer, channels = stage(block, channels, width, count, stride, squeeze)
            setattr(self, f"layer{i}", layer)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        if self.imagenet:
            x = nn.functional.max_pool2d(x, 3, 2, 1)
        for i in range(1, self.stages):
            x = getattr(self, f"layer{i}")(x)
        scores = attention = None
        if self.abn:
            scores, attention = self.attend(getattr(self, f"att_layer{self.stages}")(x))
            x = x * (1 + attention)
        x = getattr(self, f"layer{self.stages}")(x)
        return scores, self.fc(global_pool(x)), attention


def cifar_resnet(depth, classes, abn=True):
    """Depth 6n+2; bottleneck blocks, n of them to a stage all the same, from depth 44 on."""
    assert (depth - 2) % 6 == 0, "depth 6n+2"
    count = (depth - 2) // 6
    block = Bottleneck if depth >= 44 else BasicBlock
    return ResNet(block, [count] * 3, 16, classes, abn, imagenet=False)


IMAGENET_RESNETS = {
    18: (BasicBlock, [2, 2, 2, 2]),
    34: (BasicBlock, [3, 4, 6, 3]),
    50: (Bottleneck, [3, 4, 6, 3]),
    101: (Bottleneck, [3, 4, 23, 3]),
    152: (Bottleneck, [3, 8, 36, 3]),
}


def imagenet_resnet(depth, classes, abn=True, squeeze=False):
    block, counts = IMAGENET_RESNETS[depth]
    return ResNet(block, counts, 64, classes, abn, imagenet=True, squeeze=squeeze)


class WideBlock(nn.Module):
    """Normalisation before convolution; the shortcut's projection takes the normalised input too."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.convShortcut = None if inputs == outputs else conv1x1(inputs, outputs, stride)

    def forward(self, x):
        h = torch.relu(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(h)
        return self.conv2(torch.relu(self.bn2(self.conv1(h)))) + shortcut


class WideStage(nn.Module):
    def __init__(self, inputs, outputs, count, stride):
        super().__init__()
        rest = [WideBlock(outputs, outputs, 1) for _ in range(1, count)]
        self.layer = nn.Sequential(WideBlock(inputs, outputs, stride), *rest)

    def forward(self, x):
        return self.layer(x)


class WideResNet(AttentionHead):
    def __init__(self, depth, widen_factor, classes, abn=True):
        super().__init__()
        assert (depth - 4) % 6 == 0, "depth 6n+4"
        count = (depth - 4) // 6
        widths = [16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        self.abn = abn
        self.conv1 = conv3x3(3, 16)
        self.block1 = WideStage(widths[0], widths[1], count, 1)
        self.block2 = WideStage(widths[1], widths[2], count, 2)
        self.block3 = WideStage(widths[2], widths[3], count, 2)
        self.bn1 = nn.BatchNorm2d(widths[3])
        if abn:
            self.att_block3 = WideStage(widths[2], widths[3], count, 1)
            self.make_head(widths[3], classes)
        self.fc = nn.Linear(widths[3], classes)

    def forward(self, x):
        x = self.block2(self.block1(self.conv1(x)))
        scores = attention = None
        if self.abn:
            scores, attention = self.attend(self.att_block3(x))
            x = x * (1 + attention)
        x = torch.relu(self.bn1(self.block3(x)))
        return scores, self.fc(global_pool(x)), attention


class ResNeXtBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, cardinality, group_width):
        super().__init__()
        width = cardinality * group_width
        self.conv_reduce = conv1x1(inputs, width)
        self.bn_reduce = nn.BatchNorm2d(width)
        self.conv_conv = conv3x3(width, width, stride, cardinality)
        self.bn = nn.BatchNorm2d(width)
        self.conv_expand = conv1x1(width, outputs)
        self.bn_expand = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut.add_module("shortcut_conv", conv1x1(inputs, outputs, stride))
            self.shortcut.add_module("shortcut_bn", nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = self.shortcut(x)
        x = torch.relu(self.bn_reduce(self.conv_reduce(x)))
        x = torch.relu(self.bn(self.conv_conv(x)))
        return torch.relu(self.bn_expand(self.conv_expand(x)) + shortcut)


class CifarResNeXt(AttentionHead):
    def __init__(self, depth, cardinality, widen_factor, classes, abn=True, base_width=64):
        super().__init__()
        assert (depth - 2) % 9 == 0, "depth 9n+2"
        count = (depth - 2) // 9
        channels = [64] + [64 * widen_factor << i for i in range(3)]

        def make(name, i, stride):
            layers = nn.Sequential()
            for j in range(count):
                inputs = channels[i - 1] if j == 0 else channels[i]
                block = ResNeXtBlock(
                    inputs, channels[i], stride if j == 0 else 1, cardinality, base_width << (i - 1)
                )
                layers.add_module(f"{name}_bottleneck_{j}", block)
            return layers

        self.abn = abn
        self.conv_1_3x3 = conv3x3(3, 64)
        self.bn_1 = nn.BatchNorm2d(64)
        self.stage_1 = make("stage_1", 1, 1)
        self.stage_2 = make("stage_2", 2, 2)
        self.stage_3 = make("stage_3", 3, 2)
        self.classifier = nn.Linear(channels[3], classes)
        if abn:
            self.stage_att = make("stage_att", 3, 1)
            self.make_head(channels[3], classes, apply_first_norm=False)

    def forward(self, x):
        x = torch.relu(self.bn_1(self.conv_1_3x3(x)))
        x = self.stage_2(self.stage_1(x))
        scores = attention = None
        if self.abn:
            scores, attention = self.attend(self.stage_att(x))
            x = x * (1 + attention)
        return scores, self.classifier(global_pool(self.stage_3(x))), attention


class CifarVgg(AttentionHead):
    """VGG with batch norm for 32x32 images, after the paper's description; there is no released code.

    The map is made after the third stage; the trunk has 3x3 convolutions for the two hidden fully connected layers.
    """

    CONVOLUTIONS = {11: [1, 1, 2, 2, 2], 13: [2, 2, 2, 2, 2], 16: [2, 2, 3, 3, 3], 19: [2, 2, 4, 4, 4]}
    WIDENING = [1, 2, 4, 8, 8]

    def __init__(self, layers, width, classes, abn=True):
        super().__init__()
        self.abn = abn
        features, channels = [], 3
        for stage, (count, widening) in enumerate(zip(self.CONVOLUTIONS[layers], self.WIDENING)):
            for _ in range(count):
                features += vgg_layer(channels, width * widening)
                channels = width * widening
            features.append(nn.MaxPool2d(2))
            if stage == 2:
                # Without the pool, which is the perception branch's.
                self.cut, feature_channels = len(features) - 1, channels
        self.features = nn.Sequential(*features)
        if abn:
            trunk = [vgg_layer(feature_channels, feature_channels) for _ in range(2)]
            self.att_layer = nn.Sequential(*trunk[0], *trunk[1])
            self.make_head(feature_channels, classes)
        self.classifier = nn.Sequential(
            nn.Linear(channels, 8 * width), nn.ReLU(), nn.Dropout(0.0),
            nn.Linear(8 * width, 8 * width), nn.ReLU(), nn.Dropout(0.0),
            nn.Linear(8 * width, classes),
        )  # fmt: skip

    def forward(self, x):
        x = self.features[: self.cut](x)
        scores = attention = None
        if self.abn:
            scores, attention = self.attend(self.att_layer(x))
            x = x * (1 + attention)
        return scores, self.classifier(global_pool(self.features[self.cut :](x))), attention


def vgg_layer(inputs, outputs):
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv1x1(inputs, 4 * growth)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = conv3x3(4 * growth, growth)

    def forward(self, x):
        y = self.conv1(torch.relu(self.bn1(x)))
        return torch.cat((x, self.conv2(torch.relu(self.bn2(y)))), 1)


class Transition(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv1x1(inputs, outputs)

    def forward(self, x):
        return nn.functional.avg_pool2d(self.conv1(torch.relu(self.bn1(x))), 2)


class CifarDenseNet(AttentionHead):
    """DenseNet-BC of depth 6n+4."""

    def __init__(self, depth, growth, classes, abn=True):
        super().__init__()
        assert (depth - 4) % 6 == 0, "depth 6n+4"
        count, self.abn = (depth - 4) // 6, abn

        def block(inputs):
            return nn.Sequential(*(DenseLayer(inputs + i * growth, growth) for i in range(count)))

        channels, grown = 2 * growth, count * growth
        self.conv1 = conv3x3(3, channels)
        for i in (1, 2):
            setattr(self, f"dense{i}", block(channels))
            outputs = (channels + grown) // 2
            setattr(self, f"trans{i}", Transition(channels + grown, outputs))
            channels = outputs
        self.dense3 = block(channels)
        if abn:
            self.att_dense3 = block(channels)
            self.make_head(channels + grown, classes)
        self.bn = nn.BatchNorm2d(channels + grown)
        self.fc = nn.Linear(channels + grown, classes)

    def forward(self, x):
        x = self.trans1(self.dense1(self.conv1(x)))
        x = self.trans2(self.dense2(x))
        scores = attention = None
        if self.abn:
            scores, attention = self.attend(self.att_dense3(x))
            x = x * (1 + attention)
        x = torch.relu(self.bn(self.dense3(x)))
        return scores, self.fc(global_pool(x)), attention


class Cam(nn.Module):
    """Class activation mapping: 3×3 convolution, mean and linear layer in place of `fc`."""

    def __init__(self, net, classes):
        super().__init__()
        name = "classifier" if hasattr(net, "classifier") else "fc"
        channels = getattr(net, name).in_features
        setattr(net, name, nn.Identity())
        self.net = net
        # Beside the network's own parameters, without a prefix.
        net.cam_conv = nn.Conv2d(channels, channels, 3, padding=1)
        net.cam_fc = nn.Linear(channels, classes)
        self.last_map = None
        last = {"dense3": "bn", "block3": "bn1"}
        module = next((last[k] for k in last if hasattr(net, k)), None)
        module = module or next(n for n in ("layer4", "layer3", "stage_3") if hasattr(net, n))
        getattr(net, module).register_forward_hook(self.keep)

    def keep(self, _module, _inputs, output):
        self.last_map = output

    def forward(self, x):
        self.net(x)
        # The networks whose last layer is a batch norm apply ReLU after it, the others have.
        x = torch.relu(self.net.cam_conv(torch.relu(self.last_map)))
        return None, self.net.cam_fc(global_pool(x)), None


class Torchvision(nn.Module):
    """A torchvision classifier, unchanged but for dropout, which is off so that results can be compared."""

    def __init__(self, name, classes):
        super().__init__()
        import torchvision

        self.net = torchvision.models.get_model(name, weights=None, num_classes=classes)
        for module in self.net.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def forward(self, x):
        return None, self.net(x), None


class MultiTask(nn.Module):
    """ABN for several tasks (section 3.4 of the paper): a map and a perception pass for each, in a loop.

    Two forms: `v1` has one logit for a task of two answers and the mean of a map as its attention score, `chainer` (the
    paper's) a 2-way softmax and the maximum. A task of more answers has a class map for each and its attention map from
    these, as the branch for one task has it; nobody published such. Answers and scores lie side by side, (N, sum of
    the tasks' logits). Residual networks of both sizes can be the backbone.
    """

    def __init__(self, net, form, categories, residual=False, abn=True):
        super().__init__()
        assert form in ("v1", "chainer"), form
        self.net, self.form, self.residual, self.abn = [net], form, residual, abn
        # The backbone's modules in the root, with the authors' name of the trunk, without its single-task head.
        for name, module in net.named_children():
            if name.startswith("att_layer"):
                self.add_module(f"layer{net.stages}_att", module)
            elif name != "fc" and not name.startswith(("bn_att", "att_conv")):
                self.add_module(name, module)
        channels = net.fc.in_features
        self.answers = [1 if form == "v1" and k == 2 else k for k in categories]
        self.scores = [1 if k == 2 else k for k in categories]
        self.output_per = nn.ModuleList(nn.Linear(channels, n) for n in self.answers)
        if abn:
            self.conv_att = conv1x1(channels, sum(self.scores))
            several = {str(t): n for t, n in enumerate(self.scores) if n > 1}
            self.conv_map = nn.ModuleDict({t: conv1x1(n, 1) for t, n in several.items()})
            self.bn_map = nn.ModuleDict({t: nn.BatchNorm2d(1) for t in several})

    def attend(self, trunk):
        class_maps = self.conv_att(trunk)
        scores = global_pool(class_maps) if self.form == "v1" else class_maps.amax((2, 3))
        maps = [
            own if own.shape[1] == 1 else torch.sigmoid(self.bn_map[str(t)](self.conv_map[str(t)](own)))
            for t, own in enumerate(class_maps.split(self.scores, 1))
        ]
        return scores, torch.cat(maps, 1)

    def forward(self, x):
        [net] = self.net
        x = torch.relu(net.bn1(net.conv1(x)))
        if net.imagenet:
            x = nn.functional.max_pool2d(x, 3, 2, 1)
        for i in range(1, net.stages):
            x = getattr(net, f"layer{i}")(x)
        last = getattr(net, f"layer{net.stages}")
        if not self.abn:
            x = global_pool(last(x))
            return None, torch.cat([output(x) for output in self.output_per], 1), None
        scores, maps = self.attend(getattr(net, f"att_layer{net.stages}")(x))
        answers = []
        for t, output in enumerate(self.output_per):
            attended = x * maps[:, t : t + 1]
            answers.append(output(global_pool(last(x + attended if self.residual else attended))))
        return scores, torch.cat(answers, 1), maps

    def loss(self, output, targets):
        """Mean over the tasks, for each branch: (total, attention's or None, perception's)."""

        def mean(logits, widths):
            losses = []
            for own, target in zip(logits.split(widths, 1), targets.T):
                if own.shape[1] == 1:
                    losses.append(nn.functional.binary_cross_entropy_with_logits(own[:, 0], target.to(own.dtype)))
                else:
                    losses.append(nn.functional.cross_entropy(own, target))
            return torch.stack(losses).mean()

        scores, answers, _ = output
        perception = mean(answers, self.answers)
        if scores is None:
            return perception, None, perception
        attention = mean(scores, self.scores)
        return attention + perception, attention, perception


def multitask(config, kind, tasks):
    """`mtabn_FORM_BACKBONE`, of `tasks` tasks with two answers or with `categories`."""
    _, form, backbone = config["arch"].split("_", 2)
    categories = config.get("categories", [2] * tasks)
    assert len(categories) == tasks, "categories of each task"
    abn = kind == "multitask"
    net = build({"arch": backbone}, "abn" if abn else "baseline", tasks)
    return MultiTask(net, form, categories, config.get("residual_attention", False), abn)


def build(config, kind, classes):
    """The network a fixture's `config` and `kind` describe."""
    if kind.startswith("multitask"):
        return multitask(config, kind, classes)
    if kind == "cam":
        return Cam(build(config, "baseline", classes), classes)
    if kind == "control":
        net = build(config, "abn", classes)
        net.held = True
        return net
    arch, abn = config["arch"], kind == "abn"
    if config.get("source") == "torchvision":
        return Torchvision(arch, classes)
    if arch == "resnet":
        return cifar_resnet(config["depth"], classes, abn)
    if arch == "wrn":
        return WideResNet(config["depth"], config["widen_factor"], classes, abn)
    if arch == "resnext":
        base_width = config.get("base_width", 64)
        return CifarResNeXt(
            config["depth"], config["cardinality"], config["widen_factor"], classes, abn, base_width
        )
    if arch == "cifar_vgg":
        return CifarVgg(config["depth"], config["width"], classes, abn)
    if arch == "densenet":
        assert config.get("compressionRate", 2) == 2, "transitions halve the channels"
        return CifarDenseNet(config["depth"], config["growthRate"], classes, abn)
    if arch.startswith("se_resnet_"):
        return imagenet_resnet(int(arch.removeprefix("se_resnet_")), classes, abn, squeeze=True)
    if arch.startswith("resnet"):
        return imagenet_resnet(int(arch.removeprefix("resnet")), classes, abn)
    raise SystemExit(
        f"no network for arch {arch!r}: expected resnet, wrn, resnext, cifar_vgg, densenet, resnet18 … "
        "resnet152, or se_resnet_18 … se_resnet_152"
    )


def initialise(net):
    """He-normal convolutions (fan out), unit batch norms; PyTorch's default for linear layers."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    return net


def loss(output, target):
    """Cross-entropy of both branches, summed (eq. 3): (total, attention's or None, perception's)."""
    scores, logits, _ = output
    perception = nn.functional.cross_entropy(logits, target)
    if scores is None:
        return perception, None, perception
    attention = nn.functional.cross_entropy(scores, target)
    return attention + perception, attention, perception
