"""The optimizers' common part: parameters added late, scheduled learning rates, clipping, packed updates,
exact state."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch

from alf.optimizers._block import PACK_LIMIT, ParameterBlock, Update
from alf.optimizers.utils import get_opt_arg

Number = Union[int, float]

_SMALLEST = 5e-324  # a denormal number, which a processor that flushes them takes for 0


class FlatOptimizer(torch.optim.Optimizer):
    """Base of optimizers whose rule works number by number. A subclass defines ``STATE_NAMES`` and
    ``_apply()``.

    It is a ``torch.optim.Optimizer`` and gives the numbers of the PyTorch optimizer of the same name (up to
    rounding), with these additions:

    * it may be made without parameters; ``add_param_group()`` adds them later;
    * ``lr`` may be a callable such as a :class:`~alf.utils.schedulers.Scheduler`, read at each step;
    * gradients are clipped inside ``step()`` without a host synchronisation;
    * ``gather()`` before ``step()`` tells whether the gradients are finite, and ``drop()`` instead of it leaves
      everything as it was; ``found_inf``, a float 0-d tensor on the device of the parameters, makes the step do
      nothing where it is 1, as in PyTorch's fused optimizers;
    * small parameters are packed into one buffer at the first step (see ``flat``), their ``data`` become
      views of it;
    * on a CPU, in the thread that steps, denormal numbers become 0 in the step, and slow nothing down;
    * ``opt_args`` of a parameter (see :func:`~alf.optimizers.utils.get_opt_arg`): ``weight_decay`` replaces
      that of the group; ``fixed_norm=True`` scales the parameter after each step to the norm it had before
      the first.

    After ``step()`` the content of ``p.grad`` is unspecified: clipping may have happened in place.
    """

    # How many tensors of a parameter's shape the rule keeps, and their names in the state dict.
    STATE_NAMES: Sequence[str] = ()

    def __init__(
        self,
        params: Any,
        defaults: Dict[str, Any],
        *,
        gradient_clipping: Optional[float] = None,
        clip_by_global_norm: bool = False,
        flat: Optional[bool] = None,
        name: Optional[str] = None,
    ):
        """
        Args:
            params: as for any PyTorch optimizer; groups without parameters are ignored.
            defaults: settings of groups that do not have their own; ``lr`` may be a callable.
            gradient_clipping: if not None, the largest norm of the gradient.
            clip_by_global_norm: if True, the norm is that of all gradients together, else that of each
                parameter's.
            flat: pack parameters into one buffer: True = all, False = none, None = the small ones on CPU,
                where it is faster; large ones are faster alone.
            name: of this optimizer, as in the tag ``lr/<name>``; by default the name of the class.
        """
        self.name = name or type(self).__name__
        check_positive(self.name, "gradient_clipping", gradient_clipping)
        self._gradient_clipping = None if gradient_clipping is None else float(gradient_clipping)
        self._clip_by_global_norm = bool(clip_by_global_norm)
        self._flat = flat
        self._blocks: List[ParameterBlock] = []
        self._num_built_groups = 0
        # schedulers by group; param_groups[i]["lr"] is always a float
        self._lr_schedulers: List[Optional[Callable[[], Number]]] = []
        self._total_norm: Optional[torch.Tensor] = None
        # what the next step() makes, and what to divide its gradients by
        self._gathered: Optional[Tuple[List[Update], Optional[torch.Tensor]]] = None
        self.found_inf: Optional[torch.Tensor] = None
        super().__init__(params, defaults)

    # ---- what can be asked

    @property
    def gradient_clipping(self) -> Optional[float]:
        """The largest allowed norm of the gradient, or None."""
        return self._gradient_clipping

    @property
    def clip_by_global_norm(self) -> bool:
        """Whether clipping uses the norm of all gradients together."""
        return self._clip_by_global_norm

    @property
    def total_norm(self) -> Optional[torch.Tensor]:
        """Norm of all gradients before the last clipping by global norm: a 0-d tensor, so that reading it is
        explicit."""
        return self._total_norm

    @property
    def lr(self) -> float:
        """The current learning rate (of the first group; the default's while there is no group)."""
        if self.param_groups:
            self._refresh_lr()
            return self.param_groups[0]["lr"]
        lr = self.defaults["lr"]
        return float(lr() if callable(lr) else lr)

    def get_lr(self) -> float:
        """Return :attr:`lr`."""
        return self.lr

    def __repr__(self) -> str:
        settings = {**self.defaults}
        if self._gradient_clipping is not None:
            settings.update(
                gradient_clipping=self._gradient_clipping, clip_by_global_norm=self._clip_by_global_norm
            )
        if self._flat is not None:
            settings["flat"] = self._flat
        if self.name != type(self).__name__:
            settings["name"] = self.name
        text = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        params = [p for group in self.param_groups for p in group["params"]]
        if params:
            text += f" | {len(params)} tensors, {sum(p.numel() for p in params):,} parameters"
        return f"{type(self).__name__}({text})"

    # ---- parameters

    def add_param_group(self, param_group: Dict[str, Any]) -> None:
        """Add parameters; a group without any is ignored.

        Args:
            param_group: ``params``: a parameter or a list of parameters or of ``(name, parameter)`` pairs;
                other entries replace the optimizer's settings for this group.

        Raises:
            ValueError: a parameter is already in this optimizer, or a setting is unknown.
            TypeError: something is not a parameter.
        """
        group = dict(param_group)
        params = group.pop("params")
        params = [params] if isinstance(params, torch.Tensor) else list(params)
        names = [p[0] if isinstance(p, tuple) else None for p in params]
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        if not params:
            return
        unknown = set(group) - set(self.defaults) - {"param_names"}
        if unknown:
            raise ValueError(
                f"Optimizer '{self.name}': unknown setting {sorted(unknown)} of a param group; expected some "
                f"of {sorted(self.defaults)}."
            )
        known = {id(p): (i, j) for i, g in enumerate(self.param_groups) for j, p in enumerate(g["params"])}
        for j, (p, name) in enumerate(zip(params, names)):
            what = f"parameter '{name}'" if name else f"parameter {j} of the new group"
            if not isinstance(p, torch.Tensor):
                raise TypeError(f"Optimizer '{self.name}': {what} must be a tensor, got {type(p).__name__}.")
            if not p.is_leaf or not (p.is_floating_point() or p.is_complex()):
                raise ValueError(
                    f"Optimizer '{self.name}': {what} (shape {tuple(p.shape)}, {p.dtype}) cannot be "
                    "optimized: it must be a leaf of floating point type."
                )
            if p.is_complex():
                raise ValueError(
                    f"Optimizer '{self.name}': {what} is complex ({p.dtype}). Keep it as a real parameter, "
                    "see torch.view_as_real."
                )
            if id(p) in known:
                i, k = known[id(p)]
                other = self._param_name(i, k)
                raise ValueError(
                    f"Optimizer '{self.name}': {what} (shape {tuple(p.shape)}) is already there as {other}. "
                    "Add each parameter once."
                )
            known[id(p)] = (len(self.param_groups), j)

        lr = group.get("lr", self.defaults["lr"])
        self._lr_schedulers.append(lr if callable(lr) else None)
        group = {"params": params, **self.defaults, **group, "lr": float(lr() if callable(lr) else lr)}
        if any(names):
            group["param_names"] = [name or f"{j}" for j, name in enumerate(names)]
        self.param_groups.append(group)

    def _param_name(self, group_index: int, index: int) -> str:
        """Return words for a parameter: its name if it was added with one."""
        if group_index < len(self.param_groups):
            names = self.param_groups[group_index].get("param_names")
            if names:
                return f"'{names[index]}'"
        return f"parameter {index} of group {group_index}"

    def prepare(self) -> None:
        """Pack the parameters now rather than at the first step, for instance before compiling a function of
        them."""
        for group in self.param_groups[self._num_built_groups :]:
            self._build_blocks(group)
        self._num_built_groups = len(self.param_groups)

    def _build_blocks(self, group: Dict[str, Any]) -> None:
        kinds: Dict[tuple, List[torch.nn.Parameter]] = {}
        for p in group["params"]:
            weight_decay = float(get_opt_arg(p, "weight_decay", group["weight_decay"]))
            own_decay = weight_decay if weight_decay != group["weight_decay"] else None
            kinds.setdefault(
                (p.device, p.dtype, own_decay, bool(get_opt_arg(p, "fixed_norm", False))), []
            ).append(p)
        for (device, _, own_decay, fixed_norm), params in kinds.items():
            if self._flat is None:
                # Elsewhere the fused kernel takes all tensors in one launch, so packing is expected to gain
                # little. That was not measured.
                pack_limit = PACK_LIMIT if device.type == "cpu" else 0
            else:
                pack_limit = float("inf") if self._flat else 0
            self._blocks.append(
                ParameterBlock(params, len(self.STATE_NAMES), pack_limit, group, own_decay, fixed_norm)
            )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, so that the next backward writes instead of adding.

        Args:
            set_to_none: set gradients to None (cheaper, and tells which parameters got a gradient) instead of
                to zero.
        """
        self.drop()
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad = torch.zeros_like(p.grad)

    # ---- step

    def _refresh_lr(self) -> None:
        for group, scheduler in zip(self.param_groups, self._lr_schedulers):
            if scheduler is not None:
                group["lr"] = float(scheduler())

    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """Update all parameters that have a gradient; the others stay untouched, state included.

        Args:
            closure: if not None, called first (with gradients enabled) to compute the loss.

        Returns:
            what ``closure`` returned, or None.
        """
        for hook in self._optimizer_step_pre_hooks.values():
            hook(self, (closure,), {})
        loss = None
        if closure is not None:
            self.drop()
            with torch.enable_grad():
                loss = closure()
        self._refresh_lr()
        with torch.no_grad():
            if self._gathered is None:
                self._collect_and_clip()
            (updates, scale), self._gathered = self._gathered, None
            if updates:
                self._apply_all(updates, scale)
        for hook in self._optimizer_step_post_hooks.values():
            hook(self, (closure,), {})
        return loss

    def _apply_all(self, updates: List[Update], scale: Optional[torch.Tensor]) -> None:
        # The moments of a weight whose gradient stays 0, as behind a dead ReLU, decay into denormal numbers,
        # for which processors need a multiple of the time. They become 0 instead.
        was_flushing = _SMALLEST * 1.0 == 0.0
        torch.set_flush_denormal(True)
        try:
            for update in updates:
                grad_scale = scale
                if scale is not None and scale.device != update.block.device:
                    grad_scale = scale.to(update.block.device)
                self._apply(update, grad_scale)
        finally:
            torch.set_flush_denormal(was_flushing)
        for block in self._blocks:
            block.after_update()

    # PyTorch wraps the step() of each class in a profiler range unless it carries this mark; the range costs
    # 8 us, where a step of one small parameter takes 6 us.
    step.hooked = True

    def gather(self) -> float:
        """Collect and clip the gradients for the next :meth:`step`, which uses them instead of ``p.grad``.

        Returns:
            A number that is NaN or infinite if a gradient is, or if their norm or sum exceeds float32; finite
            otherwise. It is read from the device, so a GPU is waited for.
        """
        self.drop()
        with torch.no_grad():
            norms = self._collect_and_clip()
            if not norms:
                norms = [grad.sum() for update in self._gathered[0] for grad in update.grads]
            return sum(norm.item() for norm in norms)

    def drop(self) -> None:
        """Forget what was gathered, so that parameters, moments and step counts stay as they are."""
        if self._gathered is not None:
            self._gathered = None
            for block in self._blocks:
                block.undo_collect()

    def _collect_and_clip(self) -> List[torch.Tensor]:
        """Set what the next step makes, and return the norms that clipping has computed, 0-d tensors."""
        if self._num_built_groups < len(self.param_groups):
            self.prepare()
        updates = [update for block in self._blocks for update in block.collect()]
        scale, norms = self._clip(updates) if updates else (None, [])
        self._gathered = (updates, scale)
        return norms

    def _clip(self, updates: List[Update]) -> Tuple[Optional[torch.Tensor], List[torch.Tensor]]:
        """Return what to divide all gradients by (float32 0-d tensor), or None, and the norms it took to know;
        clip separately if asked for."""
        max_norm = self._gradient_clipping
        if max_norm is None:
            return None, []
        if not self._clip_by_global_norm:
            blocks = {id(update.block): update.block for update in updates}.values()
            return None, [block.clip_each(max_norm).sum() for block in blocks]
        grads = [grad for update in updates for grad in update.grads]
        if len(grads) == 1:
            norm = torch.linalg.vector_norm(grads[0], dtype=torch.float32)
        else:
            norms = []
            for update in updates:
                norms.extend(torch._foreach_norm(update.grads, dtype=torch.float32))
            if len(self._blocks) > 1:
                norms = [norm.to(norms[0].device) for norm in norms]
            norm = torch.linalg.vector_norm(torch.stack(norms))
        self._total_norm = norm
        if norm.is_cpu and norm.item() <= max_norm:
            return None, [norm]  # to divide each gradient by 1 would take as long as to look at all of them
        # g * max_norm / max(norm, max_norm): exactly 1 where nothing is to be clipped
        return norm.clamp(min=max_norm).div_(max_norm), [norm]

    def _weight_decay(self, block: ParameterBlock) -> float:
        return block.group["weight_decay"] if block.weight_decay is None else block.weight_decay

    def _apply(self, update: Update, grad_scale: Optional[torch.Tensor]) -> None:
        """Update ``update.params`` in place.

        Args:
            update: what to update, its group holds the settings.
            grad_scale: gradients are to be divided by it if not None.
        """
        raise NotImplementedError

    def reset_state(self) -> None:
        """Forget all moments and step counts, as if the optimizer were new."""
        for block in self._blocks:
            block.reset_state()

    # ---- state

    def _locate(self) -> Dict[int, tuple]:
        """Return, by id of parameter, its block and its index in it."""
        return {id(p): (block, i) for block in self._blocks for i, p in enumerate(block.params)}

    def state_dict(self) -> Dict[str, Any]:
        """Return moments, step counts and settings in PyTorch's format, keyed by the order of the parameters.

        The tensors are those in use, not copies. Whether parameters are packed makes no difference to the
        content.
        """
        self.prepare()
        self._refresh_lr()
        place = self._locate()
        state, groups, index = {}, [], 0
        for group in self.param_groups:
            indices = list(range(index, index + len(group["params"])))
            index += len(indices)
            groups.append({**{k: v for k, v in group.items() if k != "params"}, "params": indices})
            for i, p in zip(indices, group["params"]):
                block, k = place[id(p)]
                if block.steps[k] == 0 and block.fixed_norms is None:
                    continue
                state[i] = {"step": torch.tensor(block.steps[k], dtype=torch.int64)}
                for name, states in zip(self.STATE_NAMES, block.states):
                    state[i][name] = states[k]
                if block.fixed_norms is not None:
                    state[i]["fixed_norm"] = block.fixed_norms[k]
        return {"state": state, "param_groups": groups}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """Restore a state made by ``state_dict()`` of this class or of the PyTorch optimizer of the same
        name.

        Settings of the groups are restored too, as PyTorch does; a scheduled learning rate goes on being
        scheduled.

        Raises:
            ValueError: groups, numbers of parameters, shapes or kinds of state differ.
        """
        groups, state = state_dict["param_groups"], state_dict["state"]
        where = f"Optimizer '{self.name}': cannot load the state: "
        if len(groups) != len(self.param_groups):
            raise ValueError(
                f"{where}it has {len(groups)} param groups, the optimizer has {len(self.param_groups)}."
            )
        for i, (saved, group) in enumerate(zip(groups, self.param_groups)):
            if len(saved["params"]) != len(group["params"]):
                raise ValueError(
                    f"{where}group {i} has {len(saved['params'])} parameters there and "
                    f"{len(group['params'])} here."
                )
        self.prepare()
        place = self._locate()
        # JSON turns the keys into strings.
        state = {int(key): value for key, value in state.items()}
        loads = []
        for gi, (saved, group) in enumerate(zip(groups, self.param_groups)):
            for j, (index, p) in enumerate(zip(saved["params"], group["params"])):
                entry = state.get(int(index))
                if entry is not None:
                    for name in self.STATE_NAMES:
                        value = entry.get(name)
                        if value is None:
                            raise ValueError(
                                f"{where}{self._param_name(gi, j)} has no '{name}' there, only "
                                f"{sorted(entry)}. Was it saved by another kind of optimizer?"
                            )
                        if value.shape != p.shape:
                            raise ValueError(
                                f"{where}{self._param_name(gi, j)} has shape {tuple(value.shape)} there and "
                                f"{tuple(p.shape)} here."
                            )
                loads.append((place[id(p)], entry))
        self.reset_state()
        steps = {id(block): list(block.steps) for block in self._blocks}
        for (block, k), entry in loads:
            if entry is None:
                continue
            # SGD of PyTorch does not count steps; what matters is that there was a first one.
            steps[id(block)][k] = int(entry.get("step", 1))
            for name, states in zip(self.STATE_NAMES, block.states):
                states[k].copy_(entry[name])
            if block.fixed_norms is not None and "fixed_norm" in entry:
                block.fixed_norms[k].copy_(entry["fixed_norm"])
        for block in self._blocks:
            block.load_steps(steps[id(block)])
        for saved, group in zip(groups, self.param_groups):
            for key in self.defaults:
                if key in saved:
                    group[key] = tuple(saved[key]) if isinstance(saved[key], list) else saved[key]

    def __getstate__(self) -> Dict[str, Any]:
        """Return everything, so that copies keep their parameters (copied along), state and schedulers."""
        return dict(self.__dict__)

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)


def check_positive(optimizer: str, argument: str, value: Optional[float]) -> None:
    """Raise ValueError unless ``value`` is a positive number or None."""
    if value is not None and not value > 0:
        raise ValueError(f"{optimizer}.{argument}: expected a positive number or None, got {value}.")


def check_lr(optimizer: str, lr: Any) -> None:
    """Raise ValueError unless ``lr`` is a non-negative number or a callable."""
    is_number = isinstance(lr, (int, float)) and not isinstance(lr, bool)
    if not callable(lr) and not (is_number and lr >= 0):
        raise ValueError(
            f"{optimizer}.lr: expected a non-negative number or a scheduler (a callable), got {lr!r}."
        )


def check_betas(optimizer: str, betas: Sequence[float]) -> tuple:
    """Return ``betas`` as a pair of numbers in [0, 1)."""
    betas = tuple(betas)
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"{optimizer}.betas: expected two numbers in [0, 1), got {betas}.")
    return betas
