"""A convolutional network that tells background, rim and inside of cell nuclei in a fluorescence micrograph.

A patch stem (kernel equal to stride), a 3x3 and a 1x1 convolution with BatchNorm and ReLU, global average pooling.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.training import Recipe

PATCH, WIDTH = 4, 48


class PatchCNN(nn.Module):
    """``[batch, 1, 24, 24]`` standardised intensities to ``[batch, 3]`` logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, WIDTH, kernel_size=PATCH, stride=PATCH),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, kernel_size=3, padding=1),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Conv2d(WIDTH, 2 * WIDTH, kernel_size=1),
            nn.BatchNorm2d(2 * WIDTH),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(2 * WIDTH, 3)

    def forward(self, records: Tensor) -> Tensor:
        return self.head(self.features(records))


RECIPE = Recipe(
    name="patch_cnn",
    modality="2-D imaging (microscopy)",
    task="what lies at the window's middle; three logits, argmax decides",
    network=PatchCNN,
    epochs=12,
    learning_rate=3e-3,
    weight_decay=0.05,
    standardise="whole",
)
