"""What packages built on MuJoCo need: an OpenGL that draws without a screen, joint types that can be compared."""

import os
import sys
import types


def draw_without_screen() -> None:
    """Let MuJoCo draw through EGL where there is no screen; a ``MUJOCO_GL`` that is set stays.

    MuJoCo chooses its OpenGL when it is first imported, from ``MUJOCO_GL``, and without it needs a screen. After the
    first import this has no effect.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("MUJOCO_GL", "egl")


def let_joint_types_be_compared() -> None:
    """Let gymnasium-robotics recognise hinge and slide joints, whatever the version of MuJoCo.

    Its ``joint_type in (mjJNT_HINGE, mjJNT_SLIDE)`` is false for every joint, and an assertion then fails, where an
    enum of MuJoCo does not equal the NumPy integer in the model (3.17, for one). There its helper functions get the
    joint types as plain integers. Nothing happens where the comparison works.
    """
    import mujoco
    import numpy as np
    from gymnasium_robotics.utils import mujoco_utils

    joint_types = mujoco_utils.mujoco.mjtJoint
    if np.int32(int(joint_types.mjJNT_HINGE)) in (joint_types.mjJNT_HINGE,):
        return
    module = types.ModuleType(mujoco.__name__, mujoco.__doc__)
    vars(module).update(vars(mujoco))
    module.mjtJoint = types.SimpleNamespace(
        **{name: int(value) for name, value in mujoco.mjtJoint.__members__.items()}
    )
    mujoco_utils.mujoco = module
