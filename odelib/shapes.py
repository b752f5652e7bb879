"""The shapes in signatures, `Float[Tensor, "batch channels height width"]`, which the tests check by jaxtyping.

Where jaxtyping is not installed, such an annotation means the tensor alone: a layer needs torch and torchdiffeq only.
"""

try:
    from jaxtyping import Bool, Float, Int64, UInt8
except ImportError:

    class Float:  # type: ignore[no-redef]
        def __class_getitem__(cls, described):
            return described[0]

    Bool = Int64 = UInt8 = Float  # type: ignore[misc]

__all__ = ["Bool", "Float", "Int64", "UInt8"]
