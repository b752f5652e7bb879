"""What does an ODE-Net with two blocks reach on Fashion-MNIST by the recipe of `cifar10-modern`? The protocol:

Question: no ODE-Net with a stated error on Fashion-MNIST was found, and the short runs of `fashion-mnist` stop at 89 %.
What does the network of two ODE blocks reach there in as many epochs as two cores can do in an afternoon?

- Data: all 60,000 training images, mirrored and shifted by up to four pixels. Outside of them is black, as their own
  background is, so that nothing is reflected there. Networks are tested after every epoch, as all runs of this package
  are; the last one counts, never the best, and nothing is chosen by the test images.
- Networks: `small` of `cifar10-modern`, which has fewer than 210,000 parameters on grey images, and its control,
  a residual block passed twice in place of each ODE block (`tied-2`).
- Recipe: that of `cifar10-modern` with batches of 128 and so half of its rate, and eight epochs. Nothing is tuned:
  there are no choices, and no images are held out.
- Seeds: three of the ODE-Net. Of the control as many of two as time allows; seeds of the control are cut first.
- Wanted: 93 % in the mean. Expected: 92.5 to 93.2 %, and less than half a point between ODE-Net and control, with
  either of them ahead.

History: the protocol does not name it, but convolutions are computed by products, for speed alone. Time allowed one
seed of the control.
"""

from odelib.presets import PRESETS
from odelib.studies import photos
from odelib.studies.study import Case, Study
from odelib.studies.summary import Runs, Table, accuracy

_TWO_BLOCKS = PRESETS["odenet-fashion-mnist-two-blocks"]

NETWORKS: dict[str, Case] = {
    "small": Case(_TWO_BLOCKS, (0, 1, 2)),
    "tied-2": Case(photos.passed_twice(_TWO_BLOCKS)),
}
FASHION_MNIST = Study(
    "fashion-mnist-modern",
    "What does an ODE-Net of two blocks reach on Fashion-MNIST with a modern recipe?",
    NETWORKS,
)

NAMES = {
    "small": "ODE blocks at 14 × 14 and 7 × 7",
    "tied-2": "the same, residual blocks passed twice",
}
WANTED = {"small": "93"}  # test accuracy in percent that we set out to reach

# Test accuracy in percent as the page of the data set lists it, untested there. (network, parameters, accuracy)
PUBLISHED: list[tuple[str, str, str]] = [
    ("people who know little of fashion, on 1,000 test images", "–", "83.5"),
    ("plain, two convolutions", "under 0.10 M", "92.5"),
    ("plain, two convolutions, another one", "0.11 M", "92.2"),
    ("VGG16", "26 M", "93.5"),
    ("ResNet18", "not stated", "94.9"),
    ("DenseNet", "0.77 M", "95.4"),
    ("wide ResNet 40-4", "8.9 M", "96.7"),
]


def published_table() -> Table:
    """Test accuracies that others state."""
    return ["network", "parameters", "test accuracy, %"], PUBLISHED


def numbers(runs: Runs, short: Runs) -> dict[str, str]:
    """What the text says, by `photos.beside_control`; `short` are the runs of `fashion-mnist`."""
    return {
        **photos.beside_control(runs, NAMES, WANTED["small"]),
        "short": accuracy(short["odenet"], digits=1),
    }
