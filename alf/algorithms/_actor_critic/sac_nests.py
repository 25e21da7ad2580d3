"""States and infos of soft actor-critic algorithms."""

from alf.data_structures import namedtuple

SacState = namedtuple(
    "SacState",
    [
        "repr",  # of the representation learner
        "target_repr",  # of its target
        "actor",  # of the actor network
        "critics",  # of the critic networks
        "target_critics",  # of the target critic networks
    ],
    default_value=())

SacCriticInfo = namedtuple(
    "SacCriticInfo",
    [
        "critics",  # float32 [T, B, n] or [T, B, n, ...]: of the stored action, by each of n replicas
        "target_critic",  # float32 [T, B] or [T, B, ...]: of an action of the policy, by the target critics
    ],
    default_value=())

SacInfo = namedtuple(
    "SacInfo",
    [
        "reward",  # float32 [T, B] or [T, B, R]
        "step_type",  # int32 [T, B]
        "discount",  # float32 [T, B]
        "action",  # nest [T, B, ...]: what was done
        "action_distribution",  # nest of distributions [T, B]: the policy
        "critic",  # SacCriticInfo
        "actor_loss",  # float32 [T, B]: minus the value of an action of the policy; () without an actor
        "log_pi",  # list of float32 [T, B]: log probability of each part of the action, minus that of the prior
        "entropy_reward",  # float32 [T, B]: value of the entropy of that action
        "repr",  # info of the representation learner
    ],
    default_value=())

SacLossInfo = namedtuple("SacLossInfo", ["actor", "critic", "alpha", "neg_entropy", "repr"], default_value=())
