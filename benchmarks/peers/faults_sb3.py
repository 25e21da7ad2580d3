"""What kills, damages and a full disk do to a file that Stable-Baselines3 saves: faults_sb3.py KILLS DAMAGES.

Runs in an environment of its own, where Stable-Baselines3 is installed. The last line it prints is JSON.
"""

import json
import multiprocessing
import os
import pathlib
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import zipfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

from stable_baselines3 import PPO


def make_model():
    """Return a PPO model whose file has some 700 KB."""
    return PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [128, 128]}, device="cpu", seed=0)


def can_load(path) -> bool:
    """Return whether a file can be loaded."""
    try:
        PPO.load(path, device="cpu")
    except Exception:
        return False
    return True


def save_for_ever(path) -> None:
    """Save a model to the same file again and again."""
    model = make_model()
    while True:
        model.save(path)


def survived_kills(path, num_kills: int, rng: random.Random) -> int:
    """Return after how many kills of a process that saves the file can be loaded."""
    survived = 0
    for _ in range(num_kills):
        make_model().save(path)
        before = path.stat().st_mtime_ns
        process = multiprocessing.Process(target=save_for_ever, args=(path, ))
        process.start()
        while path.stat().st_mtime_ns == before:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.2)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        survived += can_load(path)
    return survived


def detected_damages(path, num_damages: int, rng: random.Random) -> int:
    """Return how many bits flipped in the file, or ends cut off, make loading fail."""
    make_model().save(path)
    whole = path.read_bytes()
    detected = 0
    for number in range(num_damages):
        data = bytearray(whole)
        if number % 7 < 3:
            position = rng.randrange(len(data))
            data[position] ^= 1 << rng.randrange(8)
        else:
            data = data[:0 if number % 7 == 6 else rng.randrange(len(data))]
        path.write_bytes(data)
        detected += not can_load(path)
    return detected


def survives_full_disk(path) -> bool:
    """Return whether the file is as good as before when a save finds no more room."""
    make_model().save(path)

    def save():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        make_model().save(path)

    process = multiprocessing.Process(target=save)
    process.start()
    process.join()
    return can_load(path)


class _Witness:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path, )


def runs_code(path, folder) -> bool:
    """Return whether loading a file runs code that somebody put into it."""
    make_model().save(path)
    witness = folder / "code-ran"
    changed = folder / "changed.zip"
    import base64
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "data":
                data = json.loads(content)
                data["policy_class"][":serialized:"] = base64.b64encode(pickle.dumps(_Witness(str(witness)))).decode()
                content = json.dumps(data).encode()
            target.writestr(name, content)
    can_load(changed)
    return witness.exists()


def main() -> None:
    """Do everything, and print what was found."""
    num_kills, num_damages = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(0)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sb3-faults-"))
    path = folder / "model.zip"
    try:
        print(json.dumps({
            "kills": num_kills,
            "kills_survived": survived_kills(path, num_kills, rng),
            "damages": num_damages,
            "damages_detected": detected_damages(path, num_damages, rng),
            "full_disk_survived": survives_full_disk(path),
            "code_ran": runs_code(path, folder),
        }))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
