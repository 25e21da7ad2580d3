"""Algorithm: a module with states, optimizers and a loss; trees of them are trained as one."""

import contextlib
import functools
from typing import Any, Dict, Hashable, Iterator, List, Optional, Tuple, Union

import torch
from torch import nn

from alf import summary
from alf.algorithms._training.checkpoint import (
    LOSS_SCALER,
    check_optimizer_states,
    load_optimizer_states,
    optimizer_states,
    split_state_dict,
)
from alf.algorithms._training.learner import Learner
from alf.algorithms._training.offline import OfflineReplay
from alf.algorithms._training.parameters import Assignment, assign_parameters, trained_algorithms
from alf.algorithms._training.replay import LastUnroll, Replay
from alf.algorithms._training.sequences import step_at_once
from alf.algorithms._training.update import learning_rates
from alf.algorithms.algorithm_interface import AlgorithmInterface
from alf.algorithms.config import TrainerConfig
from alf.data_structures import AlgStep, BatchInfo, Experience, LossInfo, TimeStep
from alf.nest import Nest, flatten
from alf.utils import spec_utils, summary_utils
from alf.utils.checkpoint_utils import extract_sub_state_dict_from_checkpoint

# Each step of training, and what stands in for it where sequences are trained at once.
_IN_PLACE_OF_STEPS = {
    "train_step": ("train_sequence", "trains_sequences"),
    "train_step_offline": ("train_sequence_offline", ),
}


class _LoadsCheckpoint(type):
    """Makes an algorithm load its ``checkpoint`` argument once all its constructors have run."""

    def __call__(cls, *args, **kwargs):
        algorithm = super().__call__(*args, **kwargs)
        algorithm._load_pre_trained()
        return algorithm


class Algorithm(AlgorithmInterface, metaclass=_LoadsCheckpoint):
    """Base of all algorithms: what :class:`AlgorithmInterface` promises, apart from the steps and the loss.

    Args:
        train_state_spec: nest of specs of the recurrent state of ``train_step``.
        rollout_state_spec: of ``rollout_step``; None: that of ``train_step``.
        predict_state_spec: of ``predict_step``; None: that of ``rollout_step``.
        is_on_policy: whether it learns from the graph of its unroll; None: like its parent.
        optimizer: trains the parameters that neither ``add_optimizer`` nor an algorithm below takes.
        checkpoint: ``"prefix@path"``: load the part under ``prefix`` of the checkpoint at ``path`` after construction.
        config: the settings of the run.
        debug_summaries: write more summaries.
        name: name in summaries.
    """

    def __init__(self,
                 train_state_spec: Nest = (),
                 rollout_state_spec: Optional[Nest] = None,
                 predict_state_spec: Optional[Nest] = None,
                 is_on_policy: Optional[bool] = None,
                 optimizer: Optional[torch.optim.Optimizer] = None,
                 checkpoint: Optional[str] = None,
                 config: Optional[TrainerConfig] = None,
                 debug_summaries: bool = False,
                 name: str = "Algorithm"):
        super().__init__()
        self._name = name
        self._config = config
        self._path = ""
        self._debug_summaries = debug_summaries
        self._train_state_spec = train_state_spec
        self._rollout_state_spec = train_state_spec if rollout_state_spec is None else rollout_state_spec
        self._predict_state_spec = self._rollout_state_spec if predict_state_spec is None else predict_state_spec
        self._initial_states: Dict[Tuple[str, int], Nest] = {}
        self._is_on_policy = is_on_policy
        self._default_optimizer = optimizer
        self._modules_by_optimizer: List[Tuple[torch.optim.Optimizer, list]] = []
        self._force_params_visible_to_parent = False
        self._learner = Learner(self, config)
        self._param_names: Dict[int, str] = {}
        self._data_transformer: Optional[nn.Module] = None
        self._checkpoint = checkpoint
        self._pre_loaded = False
        self._replay: Union[None, LastUnroll, Replay] = None
        self._offline: Optional[OfflineReplay] = None
        self._use_rollout_state = config is not None and config.use_rollout_state

    def __init_subclass__(cls, **kwargs):
        """Let a class be trained by its ``train_step`` if a class above it, not itself, has said how to do without."""
        super().__init_subclass__(**kwargs)
        for step, replacements in _IN_PLACE_OF_STEPS.items():
            for name in replacements:
                if _first_owner(cls, step) < _first_owner(cls, name):
                    setattr(cls, name, getattr(Algorithm, name))

    # ---- place in the tree ---------------------------------------------------------------------------------------

    def forward(self, *input):
        """Not used: an algorithm is called by its steps.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(f"{type(self).__name__} is called by predict_step, rollout_step or train_step, not by ().")

    @property
    def name(self) -> str:
        """Name in summaries."""
        return self._name

    @property
    def path(self) -> str:
        """Dotted path of this algorithm in the tree of algorithms; the root's is empty."""
        return self._path

    def set_path(self, path: str) -> None:
        """Tell the algorithm its place in the tree; one with children passes on theirs."""
        self._path = path

    def is_rl(self) -> bool:
        """Return whether this is an RLAlgorithm."""
        return False

    @property
    def on_policy(self) -> Optional[bool]:
        """Whether the algorithm learns from the graph of its unroll; None: like its parent."""
        return self._is_on_policy

    def set_on_policy(self, is_on_policy: bool) -> None:
        """Tell an algorithm whose :attr:`on_policy` is None what its parent is.

        Raises:
            ValueError: if it is already known to be the other.
        """
        if self.on_policy is not None and self.on_policy != is_on_policy:
            raise ValueError(f"{self.name}: cannot be used {'on' if is_on_policy else 'off'}-policy.")
        self._is_on_policy = is_on_policy

    @property
    def has_offline(self) -> bool:
        """Whether the algorithm also trains from stored buffers; only the root of a tree knows."""
        return self._offline is not None

    # ---- states --------------------------------------------------------------------------------------------------

    @property
    def train_state_spec(self) -> Nest:
        """Nest of specs of the state of ``train_step``."""
        return self._train_state_spec

    @property
    def rollout_state_spec(self) -> Nest:
        """Nest of specs of the state of ``rollout_step``."""
        return self._rollout_state_spec

    @property
    def predict_state_spec(self) -> Nest:
        """Nest of specs of the state of ``predict_step``."""
        return self._predict_state_spec

    def _initial_state(self, kind: str, spec: Nest, batch_size: int) -> Nest:
        key = (kind, batch_size)
        if key not in self._initial_states:
            self._initial_states[key] = spec_utils.zeros_from_spec(spec, batch_size)
        return self._initial_states[key]

    def get_initial_predict_state(self, batch_size: int) -> Nest:
        """Return the state ``[batch_size, ...]`` of ``predict_step`` where an episode begins: zeros."""
        return self._initial_state("predict", self.predict_state_spec, batch_size)

    def get_initial_rollout_state(self, batch_size: int) -> Nest:
        """Return the state ``[batch_size, ...]`` of ``rollout_step`` where an episode begins: zeros."""
        return self._initial_state("rollout", self.rollout_state_spec, batch_size)

    def get_initial_train_state(self, batch_size: int) -> Nest:
        """Return the state ``[batch_size, ...]`` of ``train_step`` where an episode begins: zeros."""
        return self._initial_state("train", self.train_state_spec, batch_size)

    def get_initial_transform_state(self, batch_size: int) -> Nest:
        """Return the state ``[batch_size, ...]`` of the data transformers where an episode begins: zeros."""
        spec = () if self._data_transformer is None else self._data_transformer.state_spec
        return self._initial_state("transform", spec, batch_size)

    def convert_train_state_to_predict_state(self, state: Nest) -> Nest:
        """Return the part of a train state that ``predict_step`` needs. To be overridden where they differ.

        Raises:
            NotImplementedError: if they differ and nobody said how.
        """
        if self.train_state_spec is self.predict_state_spec:
            return state
        raise NotImplementedError(f"{self.name}: override convert_train_state_to_predict_state.")

    @property
    def use_rollout_state(self) -> bool:
        """Whether training begins from the recurrent state of the unroll rather than from zeros."""
        return self._use_rollout_state

    @use_rollout_state.setter
    def use_rollout_state(self, flag: bool):
        for module in self.modules():
            if isinstance(module, Algorithm):
                module._use_rollout_state = flag

    def need_full_rollout_state(self) -> bool:
        """Return whether the unroll must compute the whole train state, for training to begin from it."""
        return self._use_rollout_state and bool(flatten(self.rollout_state_spec))

    # ---- optimizers ----------------------------------------------------------------------------------------------

    @property
    def default_optimizer(self) -> Optional[torch.optim.Optimizer]:
        """The optimizer of parameters that no other takes."""
        return self._default_optimizer

    def add_optimizer(self, optimizer: torch.optim.Optimizer, modules_and_params: list) -> None:
        """Let ``optimizer`` train the parameters of some modules of this algorithm.

        Args:
            optimizer: made without parameters.
            modules_and_params: modules and parameters.
        """
        assert optimizer is not None, "add_optimizer: expected an optimizer, got None"
        assert self._learner.assignment is None, f"{self.name}: add_optimizer was called after training began"
        self._modules_by_optimizer.append((optimizer, list(modules_and_params)))

    def _trainable_attributes_to_ignore(self) -> List[str]:
        """Return the names of attributes whose parameters this algorithm does not train. May be overridden."""
        return []

    @property
    def force_params_visible_to_parent(self) -> bool:
        """Whether the parent's optimizer trains the parameters that this algorithm's default optimizer would."""
        return self._force_params_visible_to_parent

    @force_params_visible_to_parent.setter
    def force_params_visible_to_parent(self, flag: bool):
        self._force_params_visible_to_parent = flag

    def attach_optimizers(self) -> Assignment:
        """Give the parameters of the tree to their optimizers, once, and return who has which.

        The trainer calls this on the root before it loads a checkpoint, whose optimizer states need parameters.

        Raises:
            ValueError: if an optimizer already trains parameters of another tree.
        """
        if self._learner.assignment is None:
            self._param_names = {}
            self._learner.attach()
        return self._learner.assignment

    def _assigned(self) -> Assignment:
        """Return who trains which parameter, or would if this were the root."""
        return assign_parameters(self) if self._learner.assignment is None else self._learner.assignment

    def get_param_name(self, param: nn.Parameter) -> Optional[str]:
        """Return the dotted name of a parameter of this tree, or None."""
        if not self._param_names:
            self._param_names = {id(p): name for name, p in self.named_parameters()}
        return self._param_names.get(id(param))

    def optimizers(self, recurse: bool = True, include_ignored_attributes: bool = False) -> list:
        """Return the optimizers of this algorithm, each once.

        Args:
            recurse: also those of the algorithms below it.
            include_ignored_attributes: also those of algorithms that are not trained from here.
        """
        algorithms = trained_algorithms(self, include_ignored_attributes) if recurse else [self]
        found = {}
        for algorithm in algorithms:
            own = [algorithm.default_optimizer] + [optimizer for optimizer, _ in algorithm._modules_by_optimizer]
            found.update((id(optimizer), optimizer) for optimizer in own if optimizer is not None)
        return list(found.values())

    def get_optimizer_info(self) -> List[Dict[str, Any]]:
        """Return, for each optimizer, ``optimizer`` (its repr) and ``parameters`` (their names), the untrained last."""
        assignment = self._assigned()
        pairs = [(repr(optimizer), parameters)
                 for optimizer, parameters in zip(assignment.optimizers, assignment.parameters, strict=True)]
        if assignment.unhandled:
            pairs.append(("None", assignment.unhandled))
        return [{"optimizer": told, "parameters": [self.get_param_name(p) for p in parameters]}
                for told, parameters in pairs]

    def get_unoptimized_parameter_info(self) -> List[str]:
        """Return the names of all parameters that no optimizer trains, ignored ones included."""
        trained = {id(p) for parameters in self._assigned().parameters for p in parameters}
        return [name for name, p in self.named_parameters() if id(p) not in trained]

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    @property
    def pre_loaded(self) -> bool:
        """Whether the argument ``checkpoint`` was loaded."""
        return self._pre_loaded

    def _load_pre_trained(self) -> None:
        if self._checkpoint is None or self._pre_loaded:
            return
        prefix, _, path = self._checkpoint.partition("@")
        if not prefix or not path:
            raise ValueError(f"{self.name}.checkpoint: expected 'prefix@path', got {self._checkpoint!r}.")
        nn.Module.load_state_dict(self, extract_sub_state_dict_from_checkpoint(prefix, path))
        self._pre_loaded = True

    def state_dict(self, destination=None, prefix: str = "", visited=None, keep_vars: bool = False) -> Dict[str, Any]:
        """Return parameters, buffers and the states of the optimizers (``_optimizers.<i>``) of the tree.

        In mixed precision with float16 also that of the loss scaler.

        Args:
            destination: dictionary to add to. With one, as when PyTorch collects a module that contains this
                algorithm, optimizers are left out: such a module could not load them.
            prefix: put before each name.
            visited: published name; not needed.
            keep_vars: return parameters rather than their values.
        """
        is_root = destination is None
        destination = nn.Module.state_dict(self, destination=destination, prefix=prefix, keep_vars=keep_vars)
        if is_root:
            destination.update(optimizer_states(self, prefix))
            if self._learner.loss_scaler is not None:
                destination[prefix + LOSS_SCALER] = self._learner.loss_scaler.state_dict()
        return destination

    def check_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """Raise if the states of optimizers in ``state_dict`` are not those of the optimizers of the tree.

        Raises:
            KeyError, TypeError, ValueError: naming what is wrong.
        """
        _, optimizers = split_state_dict(state_dict)
        if optimizers:
            self.attach_optimizers()
            check_optimizer_states(self, optimizers)

    def load_state_dict(self, state_dict: Dict[str, Any], strict: bool = True, skip_preloded: bool = True):
        """Load what :meth:`state_dict` returned. Optimizers that ``state_dict`` lacks keep their state.

        Args:
            state_dict: as returned by :meth:`state_dict`.
            strict: raise if parameters or buffers are missing or unknown.
            skip_preloded: published name; an algorithm that loaded its ``checkpoint`` argument is loaded as well.
        """
        modules, optimizers = split_state_dict(state_dict)
        result = nn.Module.load_state_dict(self, modules, strict=strict)
        if optimizers:
            self.attach_optimizers()
            load_optimizer_states(self, optimizers)
            if self._learner.loss_scaler is not None and LOSS_SCALER in optimizers:
                self._learner.loss_scaler.load_state_dict(optimizers[LOSS_SCALER])
        return result

    # ---- data transformers ---------------------------------------------------------------------------------------

    def transform_timestep(self, time_step: TimeStep, state: Nest) -> Tuple[TimeStep, Nest]:
        """Return the time step after the data transformers, and their new state."""
        if self._data_transformer is None:
            return time_step, state
        return self._data_transformer.transform_timestep(time_step, state)

    def transform_experience(self, experience: Experience) -> Experience:
        """Return stored experience ``[B, T, ...]`` after the data transformers."""
        if self._data_transformer is None:
            return experience
        return self._data_transformer.transform_experience(experience)

    @property
    def preprocesses_experience(self) -> bool:
        """Whether ``preprocess_experience`` may return anything but its arguments.

        May be overridden where an override of that method sometimes does nothing.
        """
        return type(self).preprocess_experience is not AlgorithmInterface.preprocess_experience

    @property
    def changes_experience(self) -> bool:
        """Whether data transformers or ``preprocess_experience`` change what was stored before it is trained on."""
        return self._data_transformer is not None or self.preprocesses_experience

    @contextlib.contextmanager
    def unchanged_transformers(self) -> Iterator[None]:
        """Context after which the data transformers, with their statistics, are as they were before it."""
        before = {} if self._data_transformer is None else {
            name: value.clone() for name, value in self._data_transformer.state_dict().items()}
        yield
        if self._data_transformer is not None:
            self._data_transformer.load_state_dict(before)

    # ---- losses and updates --------------------------------------------------------------------------------------

    def calc_loss(self, info: Nest) -> LossInfo:
        """Return the loss ``[T, B]``. By default ``info`` is a LossInfo already, made by ``train_step``."""
        assert isinstance(info, LossInfo), f"{self.name}: override calc_loss; info is a {type(info).__name__}"
        return info

    def train_step_offline(self, inputs: Nest, state: Nest, rollout_info: Nest, pre_train: bool = False) -> AlgStep:
        """Return what ``calc_loss_offline`` needs of a stored step. By default it is learned from like any other.

        Args:
            inputs: ``[B, ...]``.
            state: recurrent state.
            rollout_info: what ``offline_rollout_info`` made of the stored step.
            pre_train: whether this update trains offline only, before online training begins.
        """
        return self.train_step(inputs, state, rollout_info)

    def calc_loss_offline(self, info_offline: Nest, pre_train: bool = False) -> LossInfo:
        """Return the loss ``[T, B]`` of stored steps. By default it is that of other steps."""
        return self.calc_loss(info_offline)

    def train_sequence_offline(self, inputs: TimeStep, rollout_info: Nest, pre_train: bool = False) -> Nest:
        """Return what ``calc_loss_offline`` needs of stored sequences: :meth:`train_sequence`, or what an algorithm
        with a ``train_step_offline`` of its own says there.

        Args:
            inputs: time steps ``[T, B, ...]``.
            rollout_info: what ``offline_rollout_info`` made of them ``[T, B, ...]``.
            pre_train: whether this update trains offline only, before online training begins.
        """
        if type(self).train_step_offline is Algorithm.train_step_offline:
            state = (self.get_initial_train_state(inputs.step_type.shape[1]), ) if self.trains_sequences else ()
            return self.train_sequence(inputs, rollout_info, *state)
        step = functools.partial(self.train_step_offline, pre_train=pre_train)
        return step_at_once(step, inputs, rollout_info, self.get_initial_train_state(1))

    def update_with_gradient(self,
                             loss_info: LossInfo,
                             valid_masks: Optional[torch.Tensor] = None,
                             weight: float = 1.0,
                             batch_info: Optional[BatchInfo] = None) -> Tuple[LossInfo, List[Tuple[str, nn.Parameter]]]:
        """Make one step of all optimizers of the tree.

        Args:
            loss_info: losses of the steps ``[T, B]``.
            valid_masks: ``[T, B]``: where the loss counts; None: everywhere.
            weight: factor of the loss.
            batch_info: of the sampled sequences; its importance weights multiply the losses.
        Returns:
            While summaries are recorded: ``loss_info`` with ``loss`` the scalar that was minimised and ``extra`` as
            means, and the parameters with their names. Otherwise ``loss_info`` as it was given, and no parameters.
        Raises:
            NonFiniteError: if the loss or gradients are not finite, with ``TrainerConfig.non_finite="raise"``.
        """
        return self._learner.step(loss_info, valid_masks, weight, batch_info)

    def summarize_train(self, experience: Experience, train_info: Nest, loss_info: LossInfo,
                        params: List[Tuple[str, nn.Parameter]]) -> None:
        """Write the summaries of an update, if they are recorded now.

        Args:
            experience: what was trained on ``[T, B, ...]``.
            train_info: what ``calc_loss`` was given.
            loss_info: the losses.
            params: the parameters with their names.
        """
        if not summary.should_record_summaries():
            return
        summary_utils.summarize_loss(loss_info)
        for name, lr in learning_rates(self.attach_optimizers().optimizers):
            summary.scalar(f"lr/{name}", lr)
        if self._config is not None and self._config.summarize_grads_and_vars:
            summary_utils.summarize_variables(params)

    def update_kind(self) -> Hashable:
        """Return what, besides tensors, decides which operations the next update is made of.

        With ``TrainerConfig.compile`` an update is traced once for each value, and its Python does not run again.
        So a class whose train step and loss are nothing but tensor operations returns ``()``, and one that counts, say,
        what of its counter matters. Values of schedulers are read there by ``read_scheduler``, parameters and buffers
        from their modules; what a compiled update gives to ``after_update`` as ``info`` is ``()``. An update that is
        summarized is not compiled. As a subclass may be made in another way, each class says it for itself; what it
        inherits does not count.

        Raises:
            NotImplementedError: if updates cannot be compiled; its message tells why.
        """
        raise NotImplementedError("its class does not define update_kind()")

    @property
    def updates_can_be_compiled(self) -> bool:
        """Whether ``TrainerConfig.compile`` may be set: it can be done for each algorithm of the tree."""
        from alf.algorithms._training.compiled_update import CompileError, compilable_members  # takes a second
        try:
            compilable_members(self)
        except CompileError:
            return False
        return True

    def train_from_unroll(self, experience: Experience, train_info: Nest) -> int:
        """Update once from the graph of an unroll.

        Args:
            experience: ``[T + 1, B, ...]``; the last step is only bootstrapped from, its own loss does not count.
            train_info: ``info`` of the rollout steps, with their graph ``[T + 1, B, ...]``.
        Returns:
            The number of steps trained on.
        """
        with self._learner.in_mixed_precision():
            self._learner.update(experience, train_info, last_row_counts=False)
        num_rows, num_envs = experience.step_type.shape
        return (num_rows - 1) * num_envs

    def train_from_replay_buffer(self, update_global_counter: bool = False) -> int:
        """Train on stored experience: on all of it, or on samples, as ``whole_replay_buffer_training`` says.

        Args:
            update_global_counter: count each mini batch as a step of the summaries.
        Returns:
            The number of steps trained on, repeated ones counted each time.
        """
        self.attach_optimizers()
        with self._learner.in_mixed_precision():
            if self._config.whole_replay_buffer_training:
                return self._learner.train_on_all(self._replay, update_global_counter)
            return self._learner.train_on_samples(self._replay, self._offline, update_global_counter)

    @property
    def trains_sequences(self) -> bool:
        """Whether ``train_sequence`` is called also for an algorithm with a recurrent state."""
        return False

    def train_sequence(self, inputs: TimeStep, rollout_info: Nest, state: Nest = ()) -> Nest:
        """Return the info that ``calc_loss`` needs, for all steps of sequences at once.

        By default time is folded into the batch for one call of ``train_step``. To be overridden by an algorithm that
        can leave out what its loss does not need: its gradients must be the same. What an override returns is only
        read by ``calc_loss`` and ``after_update`` of the same algorithm. A subclass that overrides ``train_step`` and
        not this gets the default back.

        Args:
            inputs: time steps ``[T, B, ...]``.
            rollout_info: infos of the unroll ``[T, B, ...]``.
            state: the state before the first step ``[B, ...]``, for an algorithm that :attr:`trains_sequences`.
        """
        return step_at_once(self.train_step, inputs, rollout_info, self.get_initial_train_state(1))

    def rollout_priority(self, experience: Experience) -> Optional[torch.Tensor]:
        """Return priorities ``[T, B]`` of the steps of an unroll, or None: as the replay buffer gives to new steps.

        Args:
            experience: raw time steps, distributions as parameters ``[T, B, ...]``.
        """
        return None


def _first_owner(cls: type, name: str) -> int:
    """Return the place, among a class and those above it, of the first one that defines ``name``."""
    return next(place for place, owner in enumerate(cls.__mro__) if name in vars(owner))


class Loss(Algorithm):
    """An algorithm whose input is its loss.

    Args:
        loss_weight: factor of the loss.
        name: name in summaries.
    """

    def __init__(self, loss_weight: float = 1.0, name: str = "LossAlg"):
        super().__init__(name=name)
        self._loss_weight = loss_weight

    def predict_step(self, inputs: Nest, state: Nest = None) -> AlgStep:
        """Return an empty step."""
        return AlgStep()

    def rollout_step(self, inputs: torch.Tensor, state: Nest = None) -> AlgStep:
        """Return the loss ``inputs`` as info when learning from the unroll, nothing otherwise."""
        return AlgStep(info=inputs) if self.on_policy else AlgStep()

    def train_step(self, inputs: torch.Tensor, state: Nest = None, rollout_info: Nest = None) -> AlgStep:
        """Return the loss ``inputs`` as info."""
        return AlgStep(info=inputs)

    def calc_loss(self, info: torch.Tensor) -> LossInfo:
        """Return ``loss_weight * info``."""
        return LossInfo(loss=self._loss_weight * info, extra=info)
