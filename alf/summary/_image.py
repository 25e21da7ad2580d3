"""`Image`: a picture as an array, with resizing and laying out of several ones."""

from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np
import torch

import alf.nest as nest
from alf._install import how_to_install

INTER_NEAREST, INTER_LINEAR, INTER_CUBIC, INTER_AREA = 0, 1, 2, 3  # OpenCV's numbers
_TORCH_MODES = {
    INTER_NEAREST: "nearest",
    INTER_LINEAR: "bilinear",
    INTER_CUBIC: "bicubic",
    INTER_AREA: "area",
}


class Image:
    """A picture.

    Args:
        img: [H, W, 3] or [H, W] (grey), uint8.
    """

    def __init__(self, img: np.ndarray):
        img = np.asarray(img)
        if img.ndim == 2:
            img = np.repeat(img[:, :, None], 3, axis=2)
        if img.ndim != 3 or img.shape[2] != 3 or img.dtype != np.uint8:
            raise ValueError(
                f"Image: expected a uint8 array of shape [H, W, 3] or [H, W], got {img.dtype} {img.shape}."
            )
        self._img = img

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3)."""
        return self._img.shape

    @property
    def data(self) -> np.ndarray:
        """The pixels, [H, W, 3] uint8."""
        return self._img

    def resize(
        self, height: int | None = None, width: int | None = None, interploation: int = INTER_NEAREST
    ) -> Image:
        """Resize this picture in place and return it.

        Args:
            height: new height; from `width` and the present shape if None.
            width: new width; from `height` and the present shape if None.
            interploation: one of INTER_NEAREST, INTER_LINEAR, INTER_CUBIC, INTER_AREA of this module
                (OpenCV's numbers).
        """
        old_height, old_width, _ = self.shape
        if height is None and width is None:
            return self
        if interploation not in _TORCH_MODES:
            raise ValueError(
                f"Image.resize: interploation: expected one of {sorted(_TORCH_MODES)}, got {interploation}."
            )
        height = max(1, round(old_height * width / old_width)) if height is None else height
        width = max(1, round(old_width * height / old_height)) if width is None else width
        pixels = torch.from_numpy(np.ascontiguousarray(self._img)).permute(2, 0, 1)[None].float()
        pixels = torch.nn.functional.interpolate(
            pixels, size=(height, width), mode=_TORCH_MODES[interploation]
        )
        self._img = pixels[0].permute(1, 2, 0).round_().clamp_(0, 255).to(torch.uint8).numpy()
        return self

    @classmethod
    def from_pyplot_fig(cls, fig: Any, dpi: int = 200) -> Image:
        """Return what a matplotlib figure looks like.

        Args:
            fig: `matplotlib.figure.Figure`.
            dpi: pixels per inch of the figure's size.
        """
        import_matplotlib()
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        fig.set_dpi(dpi)
        canvas = FigureCanvasAgg(fig)
        canvas.draw()
        return cls(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())

    @classmethod
    def stack_images(cls, imgs: Sequence[Image], horizontal: bool = True) -> Image:
        """Return the pictures side by side, or one above the other; gaps of smaller ones are white.

        Args:
            imgs: at least one picture.
            horizontal: side by side if True.
        """
        if not imgs:
            raise ValueError("Image.stack_images: expected at least one image, got none.")
        along, across = (1, 0) if horizontal else (0, 1)
        extent = max(img.shape[across] for img in imgs)
        padded = []
        for img in imgs:
            padding = [(0, 0)] * 3
            padding[across] = (0, extent - img.shape[across])
            padded.append(np.pad(img.data, padding, constant_values=255))
        return cls(np.concatenate(padded, axis=along))

    @classmethod
    def pack_image_nest(cls, imgs: Any) -> Image | None:
        """Return all pictures of a nest in rows of about the same width, in nest order, or None.

        Args:
            imgs: nest whose leaves are `Image`s.
        """
        images = nest.flatten(imgs)
        if not images:
            return None
        area = sum(img.shape[0] * img.shape[1] for img in images)
        row_width = max(max(img.shape[1] for img in images), math.ceil(math.sqrt(area)))
        rows: list[list[Image]] = [[]]
        for img in images:
            if rows[-1] and sum(other.shape[1] for other in rows[-1]) + img.shape[1] > row_width:
                rows.append([])
            rows[-1].append(img)
        return cls.stack_images([cls.stack_images(row) for row in rows], horizontal=False)


def import_matplotlib() -> Any:
    """Return the module `matplotlib`, or raise an ImportError that says how to install it."""
    try:
        import matplotlib.figure
    except ImportError as error:
        raise ImportError(
            f"Rendering needs matplotlib, which is not installed: {how_to_install('plot')}."
        ) from error
    return matplotlib
