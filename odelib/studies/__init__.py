"""The studies whose records the book shows: one file a subject, with its question, its protocol and its cases."""

from odelib.errors import OptionError
from odelib.studies import cifar10, clothes, elsewhere, mnist, modern, norms, photos, speed, tiny_imagenet
from odelib.studies.study import Case, Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        mnist.GRADIENTS,
        speed.SPEED,
        cifar10.TUNING,
        cifar10.ALL_IMAGES,
        norms.NORMS,
        elsewhere.FASHION,
        elsewhere.TINY,
        modern.MNIST,
        photos.CIFAR10,
        clothes.FASHION_MNIST,
        tiny_imagenet.TINY_IMAGENET,
    )
}


def find_study(name: str) -> Study:
    """The study of this name. Raises OptionError for an unknown one."""
    if name not in STUDIES:
        raise OptionError(f"no study {name!r}; choose from {', '.join(STUDIES)}")
    return STUDIES[name]


__all__ = ["STUDIES", "Case", "Study", "find_study"]
