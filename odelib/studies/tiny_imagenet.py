"""What does an ODE-Net reach on 20 classes of Tiny ImageNet by the recipe of `cifar10-modern`? The protocol:

Question: the short runs of `tiny-imagenet-20` stop at 38 % after five epochs, with a network made for smaller images.
What does an ODE-Net for images of this size reach in 40 epochs?

- Data: all 10,000 training images of the 20 classes, of 64 x 64 pixels, mirrored and shifted by up to four pixels,
  reflected outside; 1,000 to test. Networks are tested after every epoch, as all runs of this package are; the last
  one counts, never the best, and nothing is chosen by the test images.
- `three-blocks`: the two blocks of `cifar10-modern` and, since the images are twice as high and wide, a third one, at
  32 x 32, 16 x 16 and 8 x 8 pixels. They have 16, 32 and 64 channels, as the networks of He et al. for CIFAR-10 have,
  since two cores have no time for more; groups have two, four and eight channels.
- `tied-2`: its control, a residual block passed twice in place of each ODE block.
- Recipe: that of `cifar10-modern` with batches of 64 and so a quarter of its rate. Nothing is tuned: there are no
  choices, and no images are held out.
- Seeds: three of the ODE-Net. Of the control as many of three as time allows; seeds of the control are cut first.
- Wanted: 50 % in the mean. Expected: 51 to 57 %. One accuracy near these has a standard error of 1.6 points, so that
  ODE-Net and control are expected not to be told apart, with either of them ahead by less than two points.

History: time allowed one seed of the control.
"""

import torch

from odelib.presets import PRESETS
from odelib.records import unpack_bits
from odelib.studies import photos
from odelib.studies.study import Case, Study
from odelib.studies.summary import Runs, accuracy, mean_and_range

_THREE_BLOCKS = PRESETS["odenet-tiny-imagenet-three-blocks"]

NETWORKS: dict[str, Case] = {
    "three-blocks": Case(_THREE_BLOCKS, (0, 1, 2)),
    "tied-2": Case(photos.passed_twice(_THREE_BLOCKS)),
}
TINY_IMAGENET = Study(
    "tiny-imagenet-20-modern",
    "What does an ODE-Net of three blocks reach on larger photographs with a modern recipe?",
    NETWORKS,
)

NAMES = {
    "three-blocks": "ODE blocks at 32 × 32, 16 × 16 and 8 × 8",
    "tied-2": "the same, residual blocks passed twice",
}
WANTED = {"three-blocks": "50"}  # test accuracy in percent that we set out to reach
TEST_IMAGES = 1_000

# What the 20 classes are, by the numbers of WordNet which their folders have as names, in their order.
CLASSES = {
    "n01443537": "goldfish", "n01784675": "centipede", "n02002724": "black stork", "n02123045": "tabby cat",
    "n02231487": "stick insect", "n02410509": "bison", "n02669723": "academic gown", "n02814533": "station wagon",
    "n02909870": "bucket", "n03026506": "Christmas stocking", "n03255030": "dumbbell", "n03584254": "iPod",
    "n03770439": "miniskirt", "n03937543": "pill bottle", "n04070727": "refrigerator", "n04259630": "sombrero",
    "n04398044": "teapot", "n04532670": "viaduct", "n07615774": "ice lolly", "n07871810": "meat loaf",
}  # fmt: skip


def numbers(runs: Runs, short: Runs) -> dict[str, str]:
    """What the text says, by `photos.beside_control`; `short` are the runs of `tiny-imagenet-20`, and `so-early` is the
    test accuracy of the ODE-Nets after as many epochs as these have."""
    epochs = short["odenet"][0].config.epochs
    early = [100 * (run.metrics[epochs - 1].test_accuracy or 0.0) for run in runs["three-blocks"]]
    return {
        **photos.beside_control(runs, NAMES, WANTED["three-blocks"], TEST_IMAGES),
        "short": accuracy(short["odenet"], digits=1),
        "so-early": mean_and_range(early, 1),
    }


def by_class(runs: Runs) -> dict[str, float]:
    """The percentage of the test images of every class that the ODE-Nets get right, the mean of the seeds, the easiest
    class first. Every class has as many test images, which stand together in the order of `CLASSES`."""
    wrong = torch.stack([unpack_bits(run.wrong or "") for run in runs["three-blocks"]]).float()
    right = 100 * (1 - wrong.view(len(wrong), len(CLASSES), -1).mean(dim=(0, 2)))
    return dict(sorted(zip(CLASSES.values(), right.tolist()), key=lambda found: -found[1]))
