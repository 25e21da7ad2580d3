"""What every algorithm offers to the trainer and to the algorithm that contains it."""

from torch import nn

from alf.data_structures import AlgStep, LossInfo
from alf.nest import Nest


class AlgorithmInterface(nn.Module):
    """The steps of an algorithm, in the order in which a trainer calls them.

    On-policy, one iteration is::

        for t in range(unroll_length):                       # the graph is kept
            alg_step = algorithm.rollout_step(time_step, state)
            time_step, state = env.step(alg_step.output), alg_step.state
        info = stack(alg_step.info of all steps)             # [T, B, ...]
        loss = algorithm.calc_loss(info)
        update parameters by loss
        algorithm.after_update(time_steps, info)
        algorithm.after_train_iter(time_steps, info)

    Off-policy, the unroll makes no graph and its steps are stored; then, for each batch of stored experience::

        inputs, rollout_info = algorithm.preprocess_experience(inputs, rollout_info, batch_info)    # [B, T, ...]
        alg_step = algorithm.train_step(inputs, state, rollout_info)                                # [B, ...]
        loss = algorithm.calc_loss(alg_step.info)                                                   # [T, B, ...]
        update parameters by loss
        algorithm.after_update(inputs, alg_step.info)

    ``predict_step`` acts without learning, in evaluation and play.
    """

    @property
    def path(self) -> str:
        """Dotted path of this algorithm in the tree of algorithms; the root's is empty."""
        raise NotImplementedError

    def set_path(self, path: str) -> None:
        """Tell the algorithm its place in the tree; one with children passes on theirs."""
        raise NotImplementedError

    @property
    def on_policy(self) -> bool:
        """Whether the algorithm learns from the graph of its unroll; None: whatever its parent is."""
        raise NotImplementedError

    def set_on_policy(self, is_on_policy: bool) -> None:
        """Tell an algorithm whose :attr:`on_policy` is None what its parent is."""
        raise NotImplementedError

    def predict_step(self, inputs: Nest, state: Nest) -> AlgStep:
        """Act without learning.

        Args:
            inputs: nest ``[B, ...]``; for a root algorithm, a TimeStep.
            state: nest of tensors as in ``predict_state_spec``.
        Returns:
            AlgStep whose ``output`` is the action of an RL algorithm.
        """
        raise NotImplementedError

    def rollout_step(self, inputs: Nest, state: Nest) -> AlgStep:
        """Act in a training environment.

        Args:
            inputs: nest ``[B, ...]``; for a root algorithm, a TimeStep.
            state: nest of tensors as in ``rollout_state_spec``.
        Returns:
            AlgStep; ``info`` is stored (off-policy) or goes to ``calc_loss`` (on-policy).
        """
        raise NotImplementedError

    def train_step(self, inputs: Nest, state: Nest, rollout_info: Nest) -> AlgStep:
        """Compute what the loss needs from one stored step.

        Args:
            inputs: nest ``[B, ...]`` as given to ``rollout_step``.
            state: nest of tensors as in ``train_state_spec``.
            rollout_info: ``info`` of the rollout step, after ``preprocess_experience``.
        Returns:
            AlgStep whose ``info`` goes to ``calc_loss``.
        """
        raise NotImplementedError

    def calc_loss(self, info: Nest) -> LossInfo:
        """Return the loss ``[T, B]`` of a sequence of steps.

        Args:
            info: ``AlgStep.info`` of the steps, time-major ``[T, B, ...]``.
        """
        raise NotImplementedError

    def preprocess_experience(self, root_inputs: Nest, rollout_info: Nest, batch_info: Nest):
        """Return ``(root_inputs, rollout_info)`` with what is computed over whole sequences, before training on them.

        The result may have fewer steps: an algorithm that needs the last step of an unroll only to bootstrap
        from it leaves it out.

        Args:
            root_inputs: inputs of the root algorithm, batch-major ``[B, T, ...]``.
            rollout_info: ``info`` of this algorithm's rollout steps, ``[B, T, ...]``.
            batch_info: BatchInfo of the sequences.
        """
        return root_inputs, rollout_info

    def after_update(self, root_inputs: Nest, info: Nest) -> None:
        """Act after each update of the parameters, e.g. move target networks.

        Args:
            root_inputs: inputs of the root algorithm ``[T, B, ...]``.
            info: what ``calc_loss`` was given.
        """

    def after_train_iter(self, root_inputs: Nest, rollout_info: Nest) -> None:
        """Act after each training iteration, e.g. train what learns from the unroll alone.

        Args:
            root_inputs: inputs of the root algorithm in the unroll ``[T, B, ...]``, or None.
            rollout_info: ``info`` of the unroll ``[T, B, ...]``.
        """

    def train_iter(self) -> int:
        """Do one iteration and return the number of steps trained on."""
        raise NotImplementedError

    def train_from_unroll(self, experience: Nest, train_info: Nest) -> int:
        """Update once from the graph of an unroll and return the number of steps trained on."""
        raise NotImplementedError

    def train_from_replay_buffer(self, update_global_counter: bool = False) -> int:
        """Update from stored experience and return the number of steps trained on."""
        raise NotImplementedError

    def train_step_offline(self, inputs: Nest, state: Nest, rollout_info: Nest, pre_train: bool = False) -> AlgStep:
        """Like :meth:`train_step`, for experience from an offline buffer."""
        raise NotImplementedError

    def calc_loss_offline(self, info: Nest, pre_train: bool = False) -> LossInfo:
        """Like :meth:`calc_loss`, for experience from an offline buffer."""
        raise NotImplementedError
