"""Parameters that are updated with the same settings, many of them side by side in one buffer."""

from typing import Dict, List, NamedTuple, Optional, Sequence

import torch

# Estimated from single operations timed on one CPU core: a tensor of its own costs about 1.7 us more (norm
# and kernel entry), gathering its gradient about 0.14 ns a number, so they are equal near 12k numbers.
# Other limits were not tried; benchmarks/bench_update_floor.py compares this one with packing all and none.
PACK_LIMIT = 16384


class Update(NamedTuple):
    """Tensors that make the same step: one call of the optimizer's kernel."""

    block: "ParameterBlock"
    # number of this step, counted from 1
    step: int
    params: List[torch.Tensor]
    grads: List[torch.Tensor]
    # for each name of state, the tensors that belong to ``params``
    states: List[List[torch.Tensor]]


class ParameterBlock:
    """Parameters of one group with equal dtype, device and settings.

    Small parameters are *packed*: their data become views of one contiguous buffer, so that an update is one
    kernel on one tensor instead of many on small ones. Each parameter keeps its own step count, and a
    parameter without gradient is left untouched with its state: an update then runs over the stretches of the
    buffer that do have a gradient.
    """

    def __init__(
        self,
        params: Sequence[torch.nn.Parameter],
        num_states: int,
        pack_limit: float,
        lr_group: Dict,
        weight_decay: float,
        fixed_norm: bool,
    ):
        """
        Args:
            params: the parameters.
            num_states: how many tensors of the parameter's shape the optimizer keeps for each parameter.
            pack_limit: parameters with more numbers than this are not packed.
            lr_group: the param group, from which the other settings are read at each step.
            weight_decay: of this block.
            fixed_norm: whether each parameter keeps the norm it has now.
        """
        can_pack = [not fixed_norm and p.numel() <= pack_limit and p.is_contiguous() for p in params]
        if sum(can_pack) < 2:
            can_pack = [False] * len(params)
        packed = [p for p, yes in zip(params, can_pack) if yes]
        loose = [p for p, yes in zip(params, can_pack) if not yes]

        self.params: List[torch.nn.Parameter] = packed + loose
        self.group = lr_group
        self.weight_decay = weight_decay
        self.device = params[0].device
        self.dtype = params[0].dtype
        self.steps = [0] * len(self.params)
        self.fixed_norms = [torch.linalg.vector_norm(p.detach()) for p in loose] if fixed_norm else None
        self._num_packed = len(packed)
        self._layouts_checked = False
        self._all_same_step = True
        self._before_collect = (self.steps, True)

        self._ends = []
        total = 0
        for p in packed:
            total += p.numel()
            self._ends.append(total)
        self._flat_states = [
            torch.zeros(total, dtype=self.dtype, device=self.device) for _ in range(num_states)
        ]
        # states[k][i]: the k-th state of params[i], shaped like it
        self.states: List[List[torch.Tensor]] = [
            self._views(flat) + [torch.zeros_like(p, requires_grad=False) for p in loose]
            for flat in self._flat_states
        ]
        self._step_tensor = torch.zeros((), dtype=torch.float32, device=self.device)
        self._flat: Optional[torch.Tensor] = None
        self.pack()

    def _views(self, flat: torch.Tensor) -> List[torch.Tensor]:
        """Return the stretches of a packed buffer, each in the shape of its parameter."""
        return [
            flat[end - p.numel() : end].view(p.shape)
            for p, end in zip(self.params[: self._num_packed], self._ends)
        ]

    @torch.no_grad()
    def pack(self) -> None:
        """Move the data of the packed parameters into one new buffer."""
        packed = self.params[: self._num_packed]
        for p in self.params:
            if p.device != self.device or p.dtype != self.dtype:
                raise RuntimeError(
                    f"A parameter of shape {tuple(p.shape)} was {self.dtype} on {self.device} at the "
                    f"optimizer's first step and is now {p.dtype} on {p.device}. Move or cast modules "
                    "before the first step."
                )
        self._flat = None
        if packed:
            flat = torch.empty(self._ends[-1], dtype=self.dtype, device=self.device)
            flat_grad = torch.zeros_like(flat)
            for p, view in zip(packed, self._views(flat)):
                view.copy_(p)
                p.data = view
            self._flat, self._flat_grad = flat, flat_grad
            self._grad_views = self._views(flat_grad)
            self._pointers = [p.data_ptr() for p in packed]
        loose = self.params[self._num_packed :]
        # the whole block as one update
        self._whole_params = ([self._flat] if packed else []) + loose
        self._whole_states = [
            ([flat_state] if packed else []) + states[self._num_packed :]
            for flat_state, states in zip(self._flat_states, self.states)
        ]

    def _ensure_packed(self) -> None:
        """Pack again if somebody gave a packed parameter other data (``module.to``, ``deepcopy``, another
        optimizer)."""
        pointers = [p.data_ptr() for p in self.params[: self._num_packed]]
        if self._flat is not None and pointers == self._pointers:
            return
        if self._flat is not None:
            # Moving the common storage as a whole (share_memory_) keeps the views: only the addresses are
            # new.
            size, start = self._flat.element_size(), self._flat.data_ptr()
            moved_together = all(
                pointer == start + (end - p.numel()) * size
                for pointer, p, end in zip(pointers, self.params, self._ends)
            )
            if moved_together:
                self._pointers = pointers
                return
        self.pack()

    def collect(self) -> List[Update]:
        """Return the updates to make for the gradients that are present now; step counts are advanced."""
        self._before_collect = (self.steps, self._all_same_step)
        grads = [p.grad for p in self.params]
        num_packed = self._num_packed
        if not self._layouts_checked:
            self._check_layouts(grads)
        if num_packed:
            self._ensure_packed()
        for grad in grads:
            if grad is None:
                return self._collect_some(grads)
        if not self._all_same_step:
            return self._collect_some(grads)
        self.steps = [self.steps[0] + 1] * len(grads)
        if num_packed:
            # For a dozen small gradients torch.cat(out=) takes twice as long (it is faster for large
            # ones, which are packed only on request). Gradients that live in the buffer would hide which
            # parameters got none.
            torch._foreach_copy_(self._grad_views, grads[:num_packed])
            grads = [self._flat_grad] + grads[num_packed:]
        return [Update(self, self.steps[0], self._whole_params, grads, self._whole_states)]

    def undo_collect(self) -> None:
        """Take back the step counts that the last :meth:`collect` has advanced: its updates are not made."""
        self.steps, self._all_same_step = self._before_collect

    def _collect_some(self, grads: List[Optional[torch.Tensor]]) -> List[Update]:
        """Return one update for each step count among the parameters that have a gradient."""
        num_packed = self._num_packed
        present = [i for i, grad in enumerate(grads) if grad is not None]
        self.steps = list(self.steps)
        in_buffer = [i for i in present if i < num_packed]
        if in_buffer:
            torch._foreach_copy_([self._grad_views[i] for i in in_buffer], [grads[i] for i in in_buffer])
        for i in present:
            self.steps[i] += 1
        self._all_same_step = len(set(self.steps)) == 1

        updates: Dict[int, Update] = {}
        first = 0
        while first < len(present):
            i = present[first]
            # Neighbours in the buffer that make the same step are one stretch.
            last = first
            while (
                last + 1 < len(present)
                and present[last + 1] == present[last] + 1
                and present[last + 1] < num_packed
                and self.steps[present[last + 1]] == self.steps[i]
            ):
                last += 1
            update = updates.setdefault(
                self.steps[i], Update(self, self.steps[i], [], [], [[] for _ in self._flat_states])
            )
            if i < num_packed:
                stretch = slice(self._ends[i] - self.params[i].numel(), self._ends[present[last]])
                update.params.append(self._flat[stretch])
                update.grads.append(self._flat_grad[stretch])
                for names_states, flat_state in zip(update.states, self._flat_states):
                    names_states.append(flat_state[stretch])
            else:
                update.params.append(self.params[i])
                update.grads.append(grads[i])
                for names_states, states in zip(update.states, self.states):
                    names_states.append(states[i])
            first = last + 1
        return list(updates.values())

    def _check_layouts(self, grads: List[Optional[torch.Tensor]]) -> None:
        for p, grad in zip(self.params, grads):
            if grad is not None and grad.layout != torch.strided:
                raise TypeError(
                    f"The gradient of a parameter of shape {tuple(p.shape)} is sparse ({grad.layout}); "
                    "these optimizers need dense gradients, for instance Embedding(sparse=False)."
                )
        self._layouts_checked = True

    def step_tensors(self, update: Update) -> List[torch.Tensor]:
        """Return the step number as the fused kernels want it: a tensor for each parameter."""
        return [self._step_tensor.fill_(update.step)] * len(update.params)

    def clip_each(self, max_norm: float) -> torch.Tensor:
        """Scale the gradient of each parameter on its own so that its norm is at most ``max_norm``.

        Returns:
            The norms before, one for each parameter that has a gradient.
        """
        grads = [
            self._grad_views[i] if i < self._num_packed else p.grad
            for i, p in enumerate(self.params)
            if p.grad is not None
        ]
        norms = torch.stack(torch._foreach_norm(grads))
        scales = max_norm / norms.clamp(min=max_norm)
        torch._foreach_mul_(grads, list(scales.to(self.dtype).unbind()))
        return norms

    def after_update(self) -> None:
        """Restore fixed norms, and let autograd notice that packed parameters have changed."""
        if self.fixed_norms is not None:
            for p, norm in zip(self.params, self.fixed_norms):
                if p.grad is not None:
                    p.mul_(norm / torch.linalg.vector_norm(p).clamp(min=1e-30))
        if self._num_packed:
            # The buffer and its views have version counters of their own. Without this a backward through a
            # graph made before the step would use changed weights in silence.
            torch.autograd.graph.increment_version(
                [p for p in self.params[: self._num_packed] if p.grad is not None]
            )

    def reset_state(self) -> None:
        """Forget all moments and step counts."""
        self.steps = [0] * len(self.params)
        self._all_same_step = True
        for states in self.states:
            torch._foreach_zero_(states)

    def load_steps(self, steps: List[int]) -> None:
        """Set the step count of each parameter."""
        self.steps = steps
        self._all_same_step = len(set(steps)) == 1

    def __getstate__(self) -> Dict:
        """Return the content without the buffer of parameters: copied parameters are packed again at their
        next step."""
        state = dict(self.__dict__)
        for name in ("_flat_grad", "_grad_views", "_pointers", "_whole_params", "_whole_states"):
            state.pop(name, None)
        state["_flat"] = None
        # Copying would cut the views apart from the buffer; it is built anew from them.
        state["_flat_states"] = len(self._flat_states)
        return state

    def __setstate__(self, state: Dict) -> None:
        self.__dict__.update(state)
        num_states = self._flat_states
        total = self._ends[-1] if self._ends else 0
        self._flat_states = [
            torch.zeros(total, dtype=self.dtype, device=self.device) for _ in range(num_states)
        ]
        for flat, states in zip(self._flat_states, self.states):
            for i, view in enumerate(self._views(flat)):
                states[i] = view.copy_(states[i])
        self.pack()
