"""f by matrix products: its convolutions with fewer multiplications.   (the book's chapter `speed`)

A 3x3 convolution multiplies nine times for a pixel and a pair of channels. Toom and Cook need only m + 2 products for m
neighbouring outputs of a filter with three taps, in two dimensions (m + 2)^2 for m^2: for a map of 6 x 6 pixels 64 in
place of 324. (Toom 1963, Cook 1966; minimal by Winograd 1980; for the convolutions of networks Lavin and Gray 2016.)

The states of the book's ODE blocks are nearly as small as that, so that all of it is matrix products: one along the
height and one along the width lead from pixels to points, at each point a matrix multiplies the channels, two more lead
back.
For this the state changes its layout once a solve, from (batch, channels, height, width) to
(height width, channels, batch), in which nothing has to be moved between one product and the next.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from odelib.errors import OptionError
from odelib.odefunc import ODEfunc, TimeConv2d
from odelib.shapes import Float

# Where polynomials are evaluated for a tile of m outputs, besides infinity. Which points are taken decides on the
# rounding error (Barabasz et al. 2020); these came out of a search among small fractions.
POINTS = {
    1: "0 1",
    2: "0 1 -1",
    3: "0 1 -1 1/2",
    4: "0 2/3 -2/3 5/3 -5/3",
    5: "0 5/4 -5/4 3/5 -3/5 3",
    6: "0 1 -1 2 -2 1/2 -1/2",
    7: "0 3/4 -3/4 5/4 -5/4 5/2 -5/2 1/4",
    8: "0 3/2 -3/2 3/4 -3/4 5/2 -5/2 2/5 -2/5",
}
LARGEST_TILE = max(POINTS)


@lru_cache
def toom_cook(m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices A, G and B such that A^T (Gg * Bd) are the m numbers g_0 d_i + g_1 d_(i+1) + g_2 d_(i+2).

    A is (m + 2, m), G (m + 2, 3) and B (m + 2, m + 2). A product of polynomials p with m coefficients and g with three
    is known by its values at m + 2 points, one of which may be infinity, the value there being the leading coefficient.
    With E_n for the evaluation of n coefficients at the points that is pg = E_(m+2)^-1 (E_m p * E_3 g). To slide g
    along d is the transpose of p -> pg: so A = E_m, G = E_3 and B = E_(m+2)^-T. The three rows of a point may be scaled
    if only the product of the scales is 1; powers of two, which round nothing, make them about equally long. In
    float64, of fractions that are exact.
    """
    points = [Fraction(point) for point in POINTS[m].split()]

    def evaluation(n: int) -> list[list[Fraction]]:
        return [[point**k for k in range(n)] for point in points] + [[Fraction(k == n - 1) for k in range(n)]]

    a, g, b = (_matrix(rows) for rows in (evaluation(m), evaluation(3), zip(*inverse(evaluation(m + 2)))))
    length = [x.norm(dim=1, keepdim=True) for x in (a, g, b)]
    common = (length[0] * length[1] * length[2]) ** (1 / 3)
    scale_a, scale_g = (torch.exp2(torch.log2(common / x).round()) for x in length[:2])
    return a * scale_a, g * scale_g, b / (scale_a * scale_g)


def _matrix(rows: Iterable[Sequence[Fraction]]) -> Tensor:
    return torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)


def inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    """The inverse of a square matrix, exactly (Gauss and Jordan). Raises StopIteration where there is none."""
    n = len(matrix)
    rows = [row + [Fraction(i == j) for j in range(n)] for i, row in enumerate(matrix)]
    for i in range(n):
        pivot = next(j for j in range(i, n) if rows[j][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for j in range(n):
            if j != i:
                rows[j] = [value - rows[j][i] * above for value, above in zip(rows[j], rows[i])]
    return [row[n:] for row in rows]


class Axis:
    """The height or the width of a map, cut into as few tiles of equal length as the largest tile allows.

    `there` (points, size) leads from its pixels to the points of all tiles, `back` (size, points) from there to the
    pixels of the result; `taps` (points of a tile, 3) takes a filter to its points. Neighbouring tiles share two pixels
    of their input, and what lies outside of the map is zero: both is a matter of which columns `there` has.
    """

    def __init__(self, size: int, largest_tile: int = LARGEST_TILE):
        self.tiles = -(-size // largest_tile)
        m = -(-size // self.tiles)
        a, self.taps, b = toom_cook(m)
        n = m + 2
        there, back = a.new_zeros(self.tiles * n, self.tiles * m + 2), a.new_zeros(self.tiles * m, self.tiles * n)
        for tile in range(self.tiles):
            points, start = slice(tile * n, tile * n + n), tile * m
            there[points, start : start + n] = b
            back[start : start + m, points] = a.T
        self.there, self.back = there[:, 1 : size + 1], back[:size]


def change_basis(
    x: Float[Tensor, "pixels c n"], down: Float[Tensor, "a h"], across: Float[Tensor, "b w"]
) -> Float[Tensor, "points c n"]:
    """Multiply columns of a map by `down` and rows by `across`: h w pixels give a b points, or points give pixels."""
    *_, c, n = x.shape
    x = (down @ x.reshape(down.shape[1], -1)).view(len(down), across.shape[1], c * n)
    return torch.matmul(across, x).view(-1, c, n)


class Convolution:
    """3x3 convolutions with zero padding of maps of one height and width, as matrix products."""

    def __init__(self, height: int, width: int, like: Tensor, largest_tile: int = LARGEST_TILE):
        down, across = Axis(height, largest_tile), Axis(width, largest_tile)
        taps = torch.kron(down.taps, across.taps)  # (points of a tile, 9)
        self.there, self.back = (down.there.to(like), across.there.to(like)), (down.back.to(like), across.back.to(like))
        self._size = height, width
        self._filters = taps.to(like), (down.tiles, len(down.taps), across.tiles, len(across.taps))
        ones = torch.ones(1, 1, height, width)
        self._inside = nn.functional.unfold(ones, 3, padding=1)[0].T.to(like)  # (pixels, 9): taps that meet the map

    def enter(self, z: Float[Tensor, "n c h w"]) -> Float[Tensor, "pixels c n"]:
        """A batch of images in the layout of the products."""
        return _Enter.apply(z)

    def leave(self, x: Float[Tensor, "pixels c n"]) -> Float[Tensor, "n c h w"]:
        """Back from there."""
        return _Leave.apply(x, self._size)

    def filters(self, weight: Float[Tensor, "c_out c 3 3"]) -> Float[Tensor, "points c_out c"]:
        """The filters at the points of every tile. Once a solve will do."""
        return _Linear.apply(weight, *self._filters)

    def of_ones(self, weight: Float[Tensor, "c_out 3 3"]) -> Float[Tensor, "pixels c_out 1"]:
        """The convolution of an image of ones."""
        return _Linear.apply(weight.unsqueeze(1), self._inside, (1, 1, 1, len(self._inside)))

    def __call__(
        self, x: Float[Tensor, "pixels c n"], filters: Float[Tensor, "points c_out c"]
    ) -> Float[Tensor, "pixels c_out n"]:
        return _Convolution.apply(x, filters, self.there, self.back)


def _enter(z: Tensor) -> Tensor:
    """z.permute(2, 3, 1, 0), contiguous: in two steps, since PyTorch is quick only at a matrix and its transpose."""
    return z.transpose(0, 1).reshape(-1, z[0, 0].numel()).T.contiguous().view(-1, z.shape[1], len(z))


def _leave(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x.reshape(len(x), -1).T.contiguous().view(*x.shape[1:], *size).transpose(0, 1).contiguous()


class _Enter(torch.autograd.Function):
    """Into the layout; the gradient out of it. Autograd would leave gradients scattered, slow to compute with."""

    @staticmethod
    def forward(ctx, z):
        ctx.size = z.shape[2:]
        return _enter(z)

    @staticmethod
    def backward(ctx, dx):
        return _leave(dx, ctx.size)


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, size):
        return _leave(x, size)

    @staticmethod
    def backward(ctx, dz):
        return _enter(dz), None


class _Convolution(torch.autograd.Function):
    """To the points, a product at each, and back. Backward goes to the points again, since they take more room."""

    @staticmethod
    def forward(ctx, x, filters, there, back):
        ctx.there, ctx.back = there, back
        ctx.save_for_backward(x, filters)
        return change_basis(torch.bmm(filters, change_basis(x, *there)), *back)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, filters = ctx.saved_tensors
        at_points = change_basis(dy, *(matrix.T for matrix in ctx.back))
        dfilters = torch.bmm(at_points, change_basis(x, *ctx.there).transpose(1, 2))
        dx = change_basis(torch.bmm(filters.transpose(1, 2), at_points), *(matrix.T for matrix in ctx.there))
        return dx, dfilters, None, None


class _Linear(torch.autograd.Function):
    """Filters (c_out, c, 3, 3) to `matrix` times each of them, again for every tile: (points, c_out, c).

    As autograd would do it, but that nothing is saved: the ways back of the adjoint and of checkpointing pass here many
    times.
    """

    @staticmethod
    def forward(ctx, weight, matrix, shape):
        ctx.matrix, ctx.shape = matrix, shape
        rows, n_rows, columns, n_columns = shape
        c_out, c, *_ = weight.shape
        filters = (matrix @ weight.reshape(c_out * c, 9).T).view(1, n_rows, 1, n_columns, c_out, c)
        return filters.expand(rows, -1, columns, -1, -1, -1).reshape(-1, c_out, c)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        _, c_out, c = gradient.shape
        gradient = gradient.view(*ctx.shape, -1).sum((0, 2)).view(-1, c_out * c)
        return (ctx.matrix.T @ gradient).T.reshape(c_out, c, 3, 3), None, None


class _GroupNorm(torch.autograd.Function):
    """GroupNorm of (pixels, channels, batch), with a ReLU behind it where asked for.

    PyTorch's own norm wants the pixels of a channel side by side. Here it is x scale + shift, with a scale and a shift
    for every channel of every image. `pixels` (1, pixels) takes x to means over pixels, `average` (channels, channels)
    these to means of groups. A pass through the states takes longer than all that is done to sums, so that a state is
    written to a place that it has had before.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, pixels, average, eps, relu):
        y = x * x
        mean, square = average @ _mean(pixels, x), average @ _mean(pixels, y)
        rstd = torch.addcmul(square, mean, mean, value=-1).clamp_(min=0).add_(eps).rsqrt_()
        scale = weight[:, None] * rstd
        torch.addcmul(torch.addcmul(bias[:, None], mean, scale, value=-1), x, scale, out=y)
        ctx.save_for_backward(x, weight, pixels, average, mean, rstd, y.relu_() if relu else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight, pixels, average, mean, rstd, y = ctx.saved_tensors
        dy = dy.contiguous()
        if y is not None:
            dy = torch.ops.aten.threshold_backward(dy, y, 0)
        dx = dy * x
        dbias = _mean(pixels, dy)  # of every image; as dweight, with the normalised state (x - mean) rstd
        dweight = _mean(pixels, dx).addcmul_(mean, dbias, value=-1).mul_(rstd)
        n, weight = len(x), weight[:, None]
        # dx = rstd (weight dy - mean of weight dy - normalised state times the mean of weight dy normalised state)
        slope = (average @ (weight * dweight)).mul_(rstd).mul_(rstd).neg_()
        shift = (average @ (weight * dbias)).mul_(rstd).addcmul_(slope, mean).neg_()
        torch.addcmul(shift, x, slope, out=dx).addcmul_(dy, weight * rstd)
        return dx, n * dweight.sum(1), n * dbias.sum(1), None, None, None, None


def _mean(pixels: Float[Tensor, "1 pixels"], x: Float[Tensor, "pixels c n"]) -> Float[Tensor, "c n"]:
    """x.mean(0), in half the time."""
    return (pixels @ x.reshape(len(x), -1)).view(x.shape[1:])


class ProductODEfunc:
    """An ODEfunc made ready for one solve: the same function, for states (height width, channels, batch).

    z is the state at the start, (batch, channels, height, width); `enter` takes it to the layout, `leave` takes states
    back. The result is off by some 5e-6 of its size with float32 numbers where maps are 6 x 6, by some 3e-5 where tiles
    are 8 x 8, for 5e-7 with the usual convolution. 16-bit numbers would be off by several percent: they are made
    float32 here, also under torch.autocast.

    Raises OptionError where f is not an ODEfunc of GroupNorm and TimeConv2d, and ValueError where z is no batch of
    images. A subclass that computes otherwise is not noticed.
    """

    def __init__(self, f: object, z: Tensor):
        if not isinstance(f, ODEfunc):
            raise OptionError(f"products need an ODEfunc for f, got {type(f).__name__}")
        if z.ndim != 4:
            raise ValueError(f"products need a state (batch, channels, height, width), got {tuple(z.shape)}")
        self.norms = [_of_kind(nn.GroupNorm, part) for part in (f.norm1, f.norm2, f.norm3)]
        self.convolutions = [_of_kind(TimeConv2d, part).conv for part in (f.conv1, f.conv2)]
        self.activation = f.relu
        self.wide = torch.promote_types(z.dtype, torch.float32)
        like = torch.empty(0, dtype=self.wide, device=z.device)
        with torch.autocast(z.device.type, enabled=False):
            self.convolution = Convolution(z.shape[2], z.shape[3], like)
            weights = [conv.weight.to(self.wide) for conv in self.convolutions]
            self.filters = [self.convolution.filters(weight[:, 1:]) for weight in weights]
            self.clocks = [self.convolution.of_ones(weight[:, 0]) for weight in weights]
        self.pixels = like.new_full((1, z[0, 0].numel()), 1 / z[0, 0].numel())
        self.averages = [_average(norm, like) for norm in self.norms]

    def enter(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "pixels c b"]:
        return self.convolution.enter(z.to(self.wide))

    def leave(self, x: Float[Tensor, "pixels c b"]) -> Float[Tensor, "b c h w"]:
        return self.convolution.leave(x)

    def __call__(self, t: Float[Tensor, ""], x: Float[Tensor, "pixels c b"]) -> Float[Tensor, "pixels c b"]:
        with torch.autocast(x.device.type, enabled=False):
            dx = self._norm(0, x, activate=True)
            dx = self._convolve(0, t, dx)
            dx = self._norm(1, dx, activate=True)
            dx = self._convolve(1, t, dx)
            return self._norm(2, dx)

    def _norm(self, i: int, x: Tensor, activate: bool = False) -> Tensor:
        norm, relu = self.norms[i], activate and type(self.activation) is nn.ReLU
        weight, bias = norm.weight.to(self.wide), norm.bias.to(self.wide)
        x = _GroupNorm.apply(x, weight, bias, self.pixels, self.averages[i], norm.eps, relu)
        return self.activation(x) if activate and not relu else x

    def _convolve(self, i: int, t: Tensor, x: Tensor) -> Tensor:
        shift = self.convolutions[i].bias.to(self.wide)[:, None] + t * self.clocks[i]
        return self.convolution(x, self.filters[i]) + shift


def _average(norm: nn.GroupNorm, like: Tensor) -> Float[Tensor, "c c"]:
    """Takes the numbers of all channels to the means of their groups."""
    size = norm.num_channels // norm.num_groups
    return torch.kron(torch.eye(norm.num_groups).to(like), like.new_full((size, size), 1 / size))


def _of_kind(kind: type, part: nn.Module) -> Any:
    if type(part) is not kind:
        raise OptionError(f"products need {kind.__name__} in f, got {type(part).__name__}")
    return part
