"""Values that clearly do not fit the annotation of their argument are refused where they are set."""

import collections.abc
import sys
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Literal, Optional, Sequence, Tuple, Union  # noqa: UP035

import numpy as np
import pytest
import torch

from alf._config._annotations import expected_instead
from alf._config._params import Param
from alf.config_util import config, configurable, pre_config


def fits(annotation, value, default=0, scope=None):
    return expected_instead(value, Param("x", default, annotation, scope or globals())) is None


@pytest.mark.parametrize(
    "annotation, value",
    [
        (int, 3), (int, True), (int, 3.0), (int, float("inf")), (int, np.int64(3)), (int, torch.tensor(3)),
        (float, 3), (float, 0.5), (float, np.float32(1)), (float, torch.ones(2)),
        (bool, True), (bool, 0), (bool, np.bool_(True)),
        (str, "a"), (str, Path("a")),
        (Callable, torch.tanh), (Callable, partial(max)), (Callable, None), (collections.abc.Callable, int),
        (Callable[[int], int], len),
        (Optional[int], None), (Union[float, Callable], torch.relu), (int | None, 3),
        (List[int], [1, 2]), (List[int], (1, 2)), (list, []), (List, [1]), (Sequence[str], "ab"),
        (Tuple[int, int], (1, 2)), (Tuple[int, int], [1, 2]), (Tuple[int], (1, 2, 3)),
        (Tuple[int, ...], (1, 2)),
        (tuple, torch.Size([2])), (Tuple[Tuple[int]], ((1, 2), (3,))), (Sequence[float], np.ones(2)),
        (Dict[str, int], {"a": 1}), (dict, {}),
        (Literal["a", "b"], "a"), (Literal[1, None], None),
        (Any, object()), (torch.dtype, "anything"), (List["Unknown"], [1]),  # noqa: F821
        ("int", 3), ("Optional[int]", None), ("Nowhere", "x"), ("int | Nowhere", "x"), ("Nowhere.Deep", 3),
        ("Callable[[int], Nowhere]", len), ("Literal['a', 'b']", "b"), ("torch.Tensor", "x"),
    ],
)  # fmt: skip
def test_value_that_fits(annotation, value):
    assert fits(annotation, value)


@pytest.mark.parametrize(
    "annotation, value",
    [
        (int, "3"), (int, [3]), (int, None), (int, 0.5), (int, torch.tanh), (int, int),
        (float, "0.1"), (float, (0.1,)), (float, None), (float, lambda: 0.1), (float, torch.nn.Linear(1, 1)),
        (bool, "False"), (bool, [True]), (bool, None),
        (str, 3), (str, ["a"]), (str, None), (str, len), (str, b"a"),
        (Callable, 3), (Callable, "torch.tanh"), (Callable[[int], int], [len]),
        (Optional[int], "3"), (Union[int, float], "0.1"), (int | None, "3"),
        (List[int], 3), (List[int], "ab"), (List[int], ["a"]), (list, {"a": 1}), (list, None),
        (Tuple[int, int], (1, 2, 3)), (Tuple[int, int], (1, "a")), (Tuple[int, ...], (1, "a")), (tuple, 3),
        (Sequence[int], 3), (Sequence[int], len),
        (Dict[str, int], [1]), (Dict[str, int], {"a": "b"}), (Dict[str, int], {1: 1}), (dict, "a"),
        (Literal["a", "b"], "c"), (Literal[1], True),
        ("int", "3"), ("Optional[int]", "3"), ("List[int]", 3), ("int | None", "3"),
        ("Literal['a', 'b']", "c"),
        ("'int'", "3"), (List["int"], ["3"]),
    ],
)  # fmt: skip
def test_value_that_does_not_fit(annotation, value):
    assert not fits(annotation, value)


def test_none_fits_where_the_default_is_none():
    assert fits(int, None, default=None)


def test_error_names_address_expected_got_and_line():
    @configurable("ns.opt")
    def opt(lr: float = 0.1, betas: Tuple[float, float] = (0.9, 0.999)):
        return lr

    with pytest.raises(ValueError) as error:
        config("opt", lr="0.1")
    line = sys._getframe().f_lineno - 1
    assert str(error.value) == f"ns.opt.lr: expected float, got '0.1' (str), set by {__file__}:{line}."
    with pytest.raises(ValueError, match=r"ns.opt.betas: expected Tuple\[float, float\], got 0.9 \(float\)"):
        config("opt", betas=0.9)


def test_explicit_arguments_are_not_checked():
    @configurable("ns.opt")
    def opt(lr: float = 0.1):
        return lr

    assert opt("0.1") == "0.1"


def test_waiting_pre_config_is_checked_when_its_callable_appears():
    pre_config({"opt.lr": "0.1"}, origin="--conf_param")
    with pytest.raises(ValueError, match="ns.opt.lr: expected float, got '0.1' .* set by --conf_param"):

        @configurable("ns.opt")
        def opt(lr: float = 0.1):
            return lr


def test_annotation_of_a_base_constructor_is_checked_for_the_derived_class():
    class Base:
        def __init__(self, size: "int" = 1):
            self.size = size

    @configurable("ns.Derived")
    class Derived(Base):
        pass

    with pytest.raises(ValueError, match="ns.Derived.size: expected int"):
        config("Derived", size="1")


def test_understanding_an_annotation_imports_nothing(monkeypatch):
    import types

    lazy = types.ModuleType("lazy")

    def refuse(name):
        raise AssertionError(f"lazy.{name} was asked for")

    lazy.__getattr__ = refuse
    assert fits("lazy.Thing", "anything", scope={"lazy": lazy})
