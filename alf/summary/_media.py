"""Histograms, texts, animations and projector files: the summaries that take more than a protocol buffer to make."""

from __future__ import annotations

import functools
import io
import os
from typing import Any

import numpy as np


@functools.cache
def _default_edges() -> np.ndarray:
    """Bin edges 10 % apart from 1e-12 to 1e20 on both sides of zero, TensorBoard's own."""
    positive = 1e-12 * 1.1 ** np.arange(775)
    return np.concatenate((-positive[::-1], [0.0], positive))


def histogram_summary(tag: str, values: np.ndarray, bins: Any, max_bins: int | None) -> Any:
    """Return the TensorBoard summary of a histogram.

    Args:
        tag: name of the summary.
        values: non-empty 1-d array of finite numbers.
        bins: "tensorflow" for exponentially spaced edges, or what `numpy.histogram` takes.
        max_bins: neighbouring bins are joined until at most so many are left; None joins nothing.
    """
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

    if isinstance(bins, str) and bins == "tensorflow":
        edges = _default_edges()
        counts, edges = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    else:
        counts, edges = np.histogram(values, bins=bins)
    if max_bins is not None and len(counts) > max_bins:
        stride = -(-len(counts) // max_bins)
        counts = np.add.reduceat(counts, np.arange(0, len(counts), stride))
        edges = np.append(edges[:-1:stride], edges[-1])
    # A bucket is told by its right edge, so an empty one must stay before each filled one; other empty ones
    # tell nothing.
    counts = np.concatenate(([0], counts))
    filled = counts > 0
    kept = filled | np.append(filled[1:], False)
    edges, counts = edges[kept], counts[kept]
    doubles = values.astype(np.float64)
    histogram = HistogramProto(
        min=doubles.min(),
        max=doubles.max(),
        num=len(doubles),
        sum=doubles.sum(),
        sum_squares=doubles.dot(doubles),
        bucket_limit=edges.tolist(),
        bucket=counts.tolist(),
    )
    return Summary(value=[Summary.Value(tag=tag, histo=histogram)])


def text_summary(tag: str, text: str) -> Any:
    """Return the TensorBoard summary of a Markdown text, the same as torch's writer makes.

    Importing that writer imports TensorBoard's plugins, with file systems and all.

    Args:
        tag: name of the summary; it is shown below it.
        text: in Markdown.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    tensor = TensorProto(
        dtype="DT_STRING",
        string_val=[text.encode("utf-8")],
        tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
    )
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    return Summary(value=[Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=tensor)])


def video_summary(tag: str, videos: np.ndarray, fps: int) -> Any:
    """Return the TensorBoard summary of an animated GIF.

    Args:
        tag: name of the summary.
        videos: [N, T, C, H, W], uint8 in [0, 255] or float in [0, 1]; laid side by side in one row.
        fps: frames per second.
    """
    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    if videos.dtype != np.uint8:
        videos = (np.clip(videos, 0.0, 1.0) * 255).astype(np.uint8)
    num_videos, num_frames, channels, height, width = videos.shape
    frames = videos.transpose(1, 3, 0, 4, 2).reshape(num_frames, height, num_videos * width, channels)
    if channels == 1:
        frames = np.repeat(frames, 3, axis=-1)
    pictures = [Image.fromarray(frame) for frame in frames]
    encoded = io.BytesIO()
    pictures[0].save(
        encoded,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=max(1, round(1000 / fps)),
        loop=0,
    )
    image = Summary.Image(
        height=height, width=num_videos * width, colorspace=3, encoded_image_string=encoded.getvalue()
    )
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def write_embedding(
    summary_dir: str, matrix: np.ndarray, labels: list | None, label_images: Any, step: int, tag: str
) -> None:
    """Write the files of TensorBoard's projector: vectors, labels, pictures, configuration.

    Args:
        summary_dir: the directory TensorBoard is pointed at.
        matrix: [N, D].
        labels: N labels or None.
        label_images: [N, C, H, W] tensor in [0, 1], or uint8, or None.
        step: training step.
        tag: name of the embedding.
    """
    relative = os.path.join(f"{step:05d}", tag.strip("/").replace("..", "_"))
    directory = os.path.join(summary_dir, relative)
    os.makedirs(directory, exist_ok=True)
    np.savetxt(os.path.join(directory, "tensors.tsv"), matrix, fmt="%.9g", delimiter="\t")
    entry = [f'tensor_name: "{tag}:{step:05d}"', f'tensor_path: "{relative}/tensors.tsv"']
    if labels is not None:
        with open(os.path.join(directory, "metadata.tsv"), "w", encoding="utf-8") as file:
            file.writelines(f"{_one_line(label)}\n" for label in labels)
        entry.append(f'metadata_path: "{relative}/metadata.tsv"')
    if label_images is not None:
        height, width = _write_sprite(os.path.join(directory, "sprite.png"), np.asarray(label_images))
        size = f"single_image_dim: {width} single_image_dim: {height}"
        entry.append(f'sprite {{ image_path: "{relative}/sprite.png" {size} }}')
    with open(os.path.join(summary_dir, "projector_config.pbtxt"), "a", encoding="utf-8") as file:
        file.write("embeddings { " + " ".join(entry) + " }\n")


def _one_line(label: Any) -> str:
    return str(getattr(label, "item", lambda: label)()).replace("\n", " ").replace("\t", " ")


def _write_sprite(path: str, images: np.ndarray) -> tuple[int, int]:
    """Write [N, C, H, W] images as one square of tiles; return height and width of a tile."""
    from PIL import Image

    if images.dtype != np.uint8:
        images = (np.clip(images, 0.0, 1.0) * 255).astype(np.uint8)
    num_images, channels, height, width = images.shape
    side = int(np.ceil(np.sqrt(num_images)))
    tiles = np.zeros((side * side, height, width, 3), np.uint8)
    tiles[:num_images] = images.transpose(0, 2, 3, 1)  # one channel is broadcast to three
    sprite = (
        tiles.reshape(side, side, height, width, 3)
        .transpose(0, 2, 1, 3, 4)
        .reshape(side * height, side * width, 3)
    )
    Image.fromarray(sprite).save(path)
    return height, width
