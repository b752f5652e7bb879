"""Saved bytes: what autograd keeps for the backward pass, counted memory by memory: of a view, all that it is a view
of."""

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class SavedBytes:
    """What has been saved for the backward pass so far."""

    n: int = 0  # bytes
    live: int = 0  # of them, those that have not been released yet
    peak: int = 0  # the largest that `live` has been


@contextmanager
def count_saved_bytes(besides: Iterable[Tensor] = ()) -> Iterator[SavedBytes]:
    """Count the bytes that autograd saves for a backward pass within the `with` block, and the most at one time.

    Tensors that share their memory count once. The memory of `besides` (weights and inputs, which exist anyway) does
    not count::

        with count_saved_bytes(model.parameters()) as saved:
            loss = model(x)
        print(saved.n)
    """
    saved = SavedBytes()
    elsewhere = {t.untyped_storage().data_ptr() for t in besides}
    known = set()
    kept = []  # memory that is given back could be handed out again, at the same address
    holders: Counter[int] = Counter()  # how many saved tensors there are now, by the address of their memory

    def pack(tensor: Tensor) -> _Holder:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        holder = _Holder(tensor)
        if address in elsewhere:
            return holder
        if address not in known:
            known.add(address)
            kept.append(storage)
            saved.n += size
        holders[address] += 1
        if holders[address] == 1:
            saved.live += size
            saved.peak = max(saved.peak, saved.live)
        weakref.finalize(holder, release, address, size)
        return holder

    def release(address: int, size: int) -> None:
        holders[address] -= 1
        if not holders[address]:
            saved.live -= size

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda holder: holder.tensor):
        yield saved


class _Holder:
    """What autograd holds in the place of a saved tensor: it dies when the tensor is released."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor.detach()  # with its history, a result that is saved would keep itself alive
