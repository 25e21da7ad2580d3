"""Scaled images and normalized observations."""

from typing import List, Optional

import torch

import alf.nest as nest
from alf.algorithms.data_transformer._base import SimpleDataTransformer, field_specs
from alf.algorithms.data_transformer._update_mode import UpdateMode
from alf.config_util import configurable
from alf.data_structures import TimeStep
from alf.tensor_specs import BoundedTensorSpec, TensorSpec
from alf.utils.normalizers import AdaptiveNormalizer, EMNormalizer, WindowNormalizer


@configurable
class ImageScaleTransformer(SimpleDataTransformer):
    """Scales uint8 images from [0, 255] to [min, max]."""

    def __init__(
        self, observation_spec, min: float = -1.0, max: float = 1.0, fields: Optional[List[str]] = None
    ):
        """
        Args:
            observation_spec: nest of specs of the observation.
            min: what 0 becomes.
            max: what 255 becomes.
            fields: dotted paths of the images; None: the observation is one image.
        """
        if not min < max:
            raise ValueError(f"ImageScaleTransformer: min must be below max, got min={min}, max={max}.")
        self_fields = field_specs("ImageScaleTransformer", observation_spec, fields)
        for field, spec in self_fields:
            if spec.dtype != torch.uint8:
                raise ValueError(f"ImageScaleTransformer.fields: '{field}' must be uint8, got {spec.dtype}.")
            scaled = BoundedTensorSpec(spec.shape, torch.float32, minimum=min, maximum=max)
            observation_spec = nest.set_field(observation_spec, field, scaled)
        super().__init__(observation_spec)
        self._fields = [field for field, _ in self_fields]
        self._scale = (max - min) / 255.0
        self._min = min

    def _transform(self, timestep: TimeStep) -> TimeStep:
        observation = timestep.observation
        for field in self._fields:
            image = nest.get_field(observation, field)
            if image.dtype != torch.uint8:
                raise ValueError(
                    f"ImageScaleTransformer: '{field}' must be uint8, got {image.dtype}. Scaled already?"
                )
            observation = nest.set_field(
                observation, field, image.to(torch.float32).mul_(self._scale).add_(self._min)
            )
        return timestep._replace(observation=observation)


@configurable
class ObservationNormalizer(SimpleDataTransformer):
    """Normalizes observations by running statistics."""

    def __init__(
        self,
        observation_spec,
        fields: Optional[List[str]] = None,
        clipping: float = 0.0,
        window_size: int = 10000,
        update_rate: float = 1e-4,
        speed: float = 8.0,
        zero_mean: bool = True,
        update_mode: str = "replay",
        mode: str = "adaptive",
    ):
        """
        Args:
            observation_spec: nest of specs of the observation.
            fields: dotted paths of the tensors to normalize; None: all of the observation.
            clipping: if positive, results are clipped to plus or minus this.
            window_size: for ``mode="window"``.
            update_rate: for ``mode="em"``.
            speed: for ``mode="adaptive"``.
            zero_mean: see :class:`~alf.utils.normalizers.Normalizer`.
            update_mode: ``replay``: statistics are updated from the experience that is trained on; ``rollout``:
                from each unroll step, which is also what an on-policy algorithm trains on; with
                ``TrainerConfig.async_unroll`` when the trainer takes the step. At other times they stay.
            mode: ``adaptive``, ``window`` or ``em``: the kind of normalizer.
        """
        ctors = dict(
            adaptive=lambda spec: AdaptiveNormalizer(spec, speed=speed, **common_args),
            window=lambda spec: WindowNormalizer(spec, window_size=window_size, **common_args),
            em=lambda spec: EMNormalizer(spec, update_rate=update_rate, **common_args),
        )
        if mode not in ctors:
            raise ValueError(f"ObservationNormalizer.mode: expected one of {sorted(ctors)}, got {mode!r}.")
        common_args = dict(auto_update=False, zero_mean=zero_mean, name="observations")

        if fields is None:
            self_fields, normalized_spec = None, observation_spec
            observation_spec = nest.map_structure(_float_spec, observation_spec)
        else:
            self_fields = field_specs("ObservationNormalizer", observation_spec, fields)
            normalized_spec = [spec for _, spec in self_fields]
            for field, spec in self_fields:
                observation_spec = nest.set_field(observation_spec, field, _float_spec(spec))
        super().__init__(observation_spec)
        self._fields = None if self_fields is None else [field for field, _ in self_fields]
        self._clipping = clipping
        self._is_update_time = UpdateMode("ObservationNormalizer", update_mode)
        self._normalizer = ctors[mode](normalized_spec)

    def _transform(self, timestep: TimeStep) -> TimeStep:
        observation = timestep.observation
        if self._fields is None:
            raw = observation
        else:
            raw = [nest.get_field(observation, field) for field in self._fields]
        if self._is_update_time():
            self._normalizer.update(raw)
        normalized = self._normalizer.normalize(raw, clip_value=self._clipping)
        if self._fields is None:
            return timestep._replace(observation=normalized)
        for field, value in zip(self._fields, normalized):
            observation = nest.set_field(observation, field, value)
        return timestep._replace(observation=observation)


def _float_spec(spec: TensorSpec) -> TensorSpec:
    """Return the spec of a normalized tensor: without bounds."""
    return TensorSpec(spec.shape, spec.dtype if spec.dtype.is_floating_point else torch.float32)
