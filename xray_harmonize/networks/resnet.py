"""A ResNet for grey radiographs: MONAI's backbone in two dimensions, and a head of our own.

The backbone keeps the state-dict names and strides of the widely used ImageNet ResNets (7 x 7 stem of stride 2,
projection shortcuts without bias, the bottleneck's stride in its 3 x 3 convolution), so that weights trained
elsewhere fit (:mod:`xray_harmonize.networks.weights`).
"""

from __future__ import annotations

from typing import Any, Final

import torch
from monai.networks.nets.resnet import ResNet
from torch import nn

from xray_harmonize.exceptions import InvalidParameterError

BLOCKS: Final[dict[int, tuple[str, tuple[int, int, int, int], int]]] = {
    10: ("basic", (1, 1, 1, 1), 1),
    18: ("basic", (2, 2, 2, 2), 1),
    34: ("basic", (3, 4, 6, 3), 1),
    50: ("bottleneck", (3, 4, 6, 3), 4),
}
"""depth -> kind of residual block, blocks a stage, and the block's expansion (He et al. 2016, table 1)."""

HEADS: Final = ("linear", "mlp")


class RadiographResNet(nn.Module):
    """ResNet over grey images with the features before its head within reach.

    Parameters
    ----------
    n_classes : int
        Length of the output (logits).
    depth : {10, 18, 34, 50}, default=18
        Layers with weights, counted as in He et al. 2016.
    width : int, default=64
        Channels of the first stage; the others have 2, 4 and 8 times as many. 64 is the published network.
    in_channels : {1, 3}, default=1
        Channels of the first convolution. With 3, the grey image is repeated, which is how networks
        pre-trained on colour images are fed.
    head : {"linear", "mlp"}, default="linear"
        ``"linear"``: one layer. ``"mlp"``: two hidden layers of a half and a quarter of the features, each with ReLU
        and dropout, which for depth 50 is 2048 - 1024 - 512 - ``n_classes`` as in the released GDCE classifier.
    dropout : float, default=0.0
        Probability of dropping a value: of the features in front of a linear head, after each hidden layer of
        an MLP head.

    Attributes
    ----------
    n_features : int
        Length of what :meth:`features` gives: ``8 * width``, times 4 for depth 50.

    Raises
    ------
    InvalidParameterError
        For a depth, width, number of channels, head or dropout that does not exist.

    References
    ----------
    He, Zhang, Ren, Sun. Deep residual learning for image recognition. CVPR 2016.

    Examples
    --------
    >>> import torch
    >>> network = RadiographResNet(2, depth=10, width=8).eval()
    >>> images = torch.zeros(3, 1, 64, 64)
    >>> network(images).shape, network.features(images).shape
    (torch.Size([3, 2]), torch.Size([3, 64]))
    """

    def __init__(
        self,
        n_classes: int,
        depth: int = 18,
        width: int = 64,
        in_channels: int = 1,
        head: str = "linear",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check(depth, width, in_channels, head, dropout)
        self.in_channels = in_channels
        self.backbone = resnet_backbone(depth, width, in_channels)
        self.n_features = n_features(depth, width)
        self.head = _head(head, self.n_features, n_classes, dropout)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Averaged feature maps before the head.

        Parameters
        ----------
        images : tensor of shape (n, 1, height, width)
            Grey values in [0, 1].

        Returns
        -------
        tensor of shape (n, n_features)
        """
        if self.in_channels != images.shape[1]:
            images = images.expand(-1, self.in_channels, -1, -1)
        images = images.contiguous(memory_format=torch.channels_last)
        features: torch.Tensor = self.backbone(images)
        return features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (n, n_classes) for images of shape (n, 1, height, width)."""
        logits: torch.Tensor = self.head(self.features(images))
        return logits


def n_features(depth: int, width: int) -> int:
    """Length of the feature vector of a ResNet.

    Examples
    --------
    >>> n_features(18, 64), n_features(50, 64)
    (512, 2048)
    """
    return 8 * width * BLOCKS[depth][2]


def resnet_backbone(depth: int, width: int, in_channels: int) -> ResNet:
    """MONAI's ResNet in two dimensions, without its last layer, in channels-last memory.

    Shortcuts are projections ("B"): MONAI's other kind pads detached values, so no gradient passes through it.
    """
    block, layers, _ = BLOCKS[depth]
    backbone = ResNet(
        block=block,
        layers=list(layers),
        block_inplanes=[width, 2 * width, 4 * width, 8 * width],
        spatial_dims=2,
        n_input_channels=in_channels,
        conv1_t_stride=2,
        shortcut_type="B",
        bias_downsample=False,
        feed_forward=False,
    )
    # Channels-last convolutions are up to 1.5 times as fast on a CPU; the values are the same.
    return backbone.to(memory_format=torch.channels_last)


def _head(kind: str, n_in: int, n_classes: int, dropout: float) -> nn.Sequential:
    if kind == "linear":
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(n_in, n_classes))
    hidden = (max(n_in // 2, 1), max(n_in // 4, 1))
    return nn.Sequential(
        nn.Linear(n_in, hidden[0]),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden[0], hidden[1]),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden[1], n_classes),
    )


def _check(depth: Any, width: Any, in_channels: Any, head: Any, dropout: Any) -> None:
    if depth not in BLOCKS:
        known = ", ".join(str(d) for d in BLOCKS)
        raise InvalidParameterError(f"depth must be one of {known}; got {depth!r}.")
    if not isinstance(width, int) or width < 1:
        raise InvalidParameterError(f"width must be a whole number of channels, at least 1; got {width!r}.")
    if in_channels not in (1, 3):
        raise InvalidParameterError(f"in_channels must be 1 (grey) or 3 (grey repeated); got {in_channels!r}.")
    if head not in HEADS:
        raise InvalidParameterError(f"head must be 'linear' or 'mlp'; got {head!r}.")
    if not 0 <= dropout < 1:
        raise InvalidParameterError(f"dropout must lie in [0, 1); got {dropout!r}.")
