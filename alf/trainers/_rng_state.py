"""The states of the random number generators of a process, as part of a checkpoint."""

import random
from typing import Any, Dict

import numpy as np
import torch


class RngState:
    """Python's, NumPy's and PyTorch's generators, with the interface of a module that is checkpointed."""

    def state_dict(self) -> Dict[str, Any]:
        """Return the states of all generators."""
        version, internal, gauss_next = random.getstate()
        name, keys, position, has_gauss, cached = np.random.get_state()
        state = {
            "python": {"version": version, "internal": list(internal), "gauss_next": gauss_next},
            "numpy": {"name": name, "keys": torch.from_numpy(keys.astype(np.int64)), "position": int(position),
                      "has_gauss": int(has_gauss), "cached": float(cached)},
            "torch": torch.get_rng_state(),
        }
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def check_state_dict(self, state: Dict[str, Any]) -> None:
        """Raise if ``state`` does not hold states of generators; none of this process is changed.

        Raises:
            LookupError, RuntimeError, TypeError, ValueError: by what generators of the same kinds say to it.
        """
        random.Random().setstate(_python_state(state))
        np.random.RandomState().set_state(_numpy_state(state))
        torch.Generator().set_state(state["torch"])

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Set the states of all generators that ``state`` and this machine have."""
        random.setstate(_python_state(state))
        np.random.set_state(_numpy_state(state))
        torch.set_rng_state(state["torch"])
        for device, cuda_state in enumerate(state.get("cuda", ())):
            if device < torch.cuda.device_count():
                torch.cuda.set_rng_state(cuda_state, device)


def _python_state(state: Dict[str, Any]) -> tuple:
    python = state["python"]
    return python["version"], tuple(python["internal"]), python["gauss_next"]


def _numpy_state(state: Dict[str, Any]) -> tuple:
    array = state["numpy"]
    keys = array["keys"].numpy().astype(np.uint32)
    return array["name"], keys, array["position"], array["has_gauss"], array["cached"]
