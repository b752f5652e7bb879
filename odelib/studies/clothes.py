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
"""

from dataclasses import replace

from odelib.config import Config
from odelib.presets import PRESETS
from odelib.studies.study import Case, Study

_TWO_BLOCKS = PRESETS["odenet-fashion-mnist-two-blocks"]
_TIED = replace(_TWO_BLOCKS, network="resnet", library=Config.library, method=Config.method, tied=True, blocks=2)

NETWORKS: dict[str, Case] = {
    "small": Case(_TWO_BLOCKS, (0, 1, 2)),
    "tied-2": Case(_TIED, (0, 1)),
}
FASHION_MNIST = Study(
    "fashion-mnist-modern",
    "What does an ODE-Net of two blocks reach on Fashion-MNIST with a modern recipe?",
    NETWORKS,
)
