"""Layers of sizes that cannot be."""

import pytest

from alf import layers


@pytest.mark.parametrize("make, shape", [(lambda: layers.FC(4, -8), r"\[-8, 4\]"),
                                         (lambda: layers.Conv2D(3, -2, 3), r"\[-2, 3, 3, 3\]")])
def test_negative_size_is_told_with_the_shape(make, shape):
    with pytest.raises(ValueError, match=f"A layer needs a parameter of shape {shape}: expected sizes >= 0"):
        make()


@pytest.mark.parametrize("size, gigabytes", [(2**40, "13,194 GB"), (2**62, "GB")])
def test_more_memory_than_there_is_is_told_with_its_amount(size, gigabytes):
    with pytest.raises(MemoryError, match=rf"shape \[{size}, 3\], .*{gigabytes}, which is too much.*Discrete space"):
        layers.FC(3, size)
