"""Pictures of numbers."""

import sys

import numpy as np
import pytest
import torch
import torch.distributions as td

import alf.summary as summary
from alf.summary import render
from alf.tensor_specs import BoundedTensorSpec, TensorSpec


@pytest.fixture(autouse=True)
def rendering():
    render.enable_rendering()
    yield
    render.enable_rendering(False)


def grey(height, width, value):
    return render.Image(np.full((height, width), value, np.uint8))


def test_nothing_is_drawn_while_rendering_is_off():
    render.enable_rendering(False)
    assert not render.is_rendering_enabled()
    assert render.render_bar("b", torch.zeros(3)) == ()


def test_image_refuses_other_arrays():
    with pytest.raises(ValueError, match=r"float64 \(2, 2, 3\)"):
        render.Image(np.zeros((2, 2)))


def test_resize_keeps_the_ratio_when_one_size_is_given():
    assert grey(10, 20, 0).resize(width=40).shape == (20, 40, 3)
    assert grey(10, 20, 0).resize(height=5).shape == (5, 10, 3)


def test_resize_nearest_repeats_pixels():
    image = render.Image(np.array([[0, 255]], np.uint8)).resize(2, 4)
    np.testing.assert_array_equal(image.data[..., 0], [[0, 0, 255, 255]] * 2)


def test_resize_by_area_averages_pixels():
    image = render.Image(np.array([[0, 100], [100, 200]], np.uint8)).resize(1, 1, render.INTER_AREA)
    assert image.data[0, 0, 0] == 100


def test_stacked_images_are_padded_with_white():
    image = render.Image.stack_images([grey(2, 1, 7), grey(1, 2, 9)])
    np.testing.assert_array_equal(image.data[..., 0], [[7, 9, 9], [7, 255, 255]])
    image = render.Image.stack_images([grey(2, 1, 7), grey(1, 2, 9)], horizontal=False)
    np.testing.assert_array_equal(image.data[..., 0], [[7, 255], [7, 255], [9, 9]])


def test_pack_image_nest_lays_out_all_images():
    image = render.Image.pack_image_nest({"a": grey(2, 2, 1), "b": (grey(2, 2, 2), grey(2, 2, 3)), "c": ()})
    for value in (1, 2, 3):
        assert (image.data[..., 0] == value).sum() == 4
    assert render.Image.pack_image_nest({}) is None


def test_title_has_the_summary_scope(monkeypatch):
    from matplotlib.axes import Axes

    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, title, **kwargs: titles.append(title))
    with summary.scope("agent"):
        render.render_curve("value", torch.zeros(4))
    assert titles == ["agent/value"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: render.render_text("reward", "1.25", img_height=30, img_width=90),
        lambda: render.render_bar(
            "b", torch.tensor([[1.0, 2.0]]), legends=["x"], img_height=30, img_width=90
        ),
        lambda: render.render_curve("c", torch.rand(2, 9), legends=["x", "y"], img_height=30, img_width=90),
        lambda: render.render_heatmap("h", torch.rand(3, 4), row_labels="abc", img_height=30, img_width=90),
    ],
)
def test_pictures_have_the_size_asked_for_and_are_not_blank(draw):
    image = draw()
    assert image.shape == (30, 90, 3)
    assert image.data.min() < 100


def test_batch_of_several_is_refused():
    with pytest.raises(ValueError, match=r"got shape \(2, 3, 4, 5\). Render one sample"):
        render.render_heatmap("h", torch.zeros(2, 3, 4, 5))


def test_actions_of_a_nest_get_a_picture_each():
    spec = {
        "move": BoundedTensorSpec((2,), minimum=-1.0, maximum=1.0),
        "jump": BoundedTensorSpec((), torch.int64, 0, 3),
    }
    images = render.render_action("a", {"move": torch.tensor([[0.1, 0.5]]), "jump": torch.tensor([2])}, spec)
    assert set(images) == {"move", "jump"} and all(isinstance(i, render.Image) for i in images.values())
    with pytest.raises(ValueError, match="a/jump: expected one value"):
        render.render_action("a", {"move": torch.zeros(1, 2), "jump": torch.zeros(2)}, spec)


def test_action_distributions_show_probabilities_or_samples(monkeypatch):
    shown = {}
    monkeypatch.setattr(render.render_bar, "__wrapped__", lambda name, data, **kw: shown.update({name: data}))
    monkeypatch.setattr(
        render.render_curve, "__wrapped__", lambda name, data, **kw: shown.update({name: data})
    )
    spec = {"d": BoundedTensorSpec((), torch.int64, 0, 1), "c": TensorSpec((2,))}
    probs = torch.tensor([[0.25, 0.75]])
    dist = {
        "d": td.Categorical(probs=probs),
        "c": td.Independent(td.Normal(torch.zeros(1, 2), torch.ones(1, 2)), 1),
    }
    render.render_action_distribution("p", dist, spec, n_samples=100, n_bins=5)
    torch.testing.assert_close(shown["p/d"], probs)
    assert shown["p/c"].shape == (2, 5)
    np.testing.assert_allclose(shown["p/c"].sum(axis=1), 1.0)


def test_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"alf-rl\[plot\]"):
        render.render_text("a", "b")
