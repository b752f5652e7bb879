"""odelib.shapes where jaxtyping is not installed: a signature names the tensor alone."""

import importlib.util
import sys

from torch import Tensor

from odelib import shapes


def test_without_jaxtyping_a_shape_means_the_tensor_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxtyping", None)  # an import fails
    spec = importlib.util.spec_from_file_location("bare_shapes", shapes.__file__)
    bare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bare)
    assert {bare.Float[Tensor, "b c h w"], bare.Int64[Tensor, "b"], bare.UInt8[Tensor, "n"]} == {Tensor}
    assert bare.Float[Tensor, ""] | bare.Float[Tensor, "b 1 1 1"] == Tensor  # as odefunc writes its Time
