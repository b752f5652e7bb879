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
"""

from odelib.presets import PRESETS
from odelib.studies.photos import passed_twice
from odelib.studies.study import Case, Study

_THREE_BLOCKS = PRESETS["odenet-tiny-imagenet-three-blocks"]

NETWORKS: dict[str, Case] = {
    "three-blocks": Case(_THREE_BLOCKS, (0, 1, 2)),
    "tied-2": Case(passed_twice(_THREE_BLOCKS), (0, 1, 2)),
}
TINY_IMAGENET = Study(
    "tiny-imagenet-20-modern",
    "What does an ODE-Net of three blocks reach on larger photographs with a modern recipe?",
    NETWORKS,
)
