"""Learning curves: trains a conf with several seeds through the real command and tells when each reached a return.

    python -m benchmarks.learn --conf ppo_cart_pole_conf.py --seeds 1 2 3 4 5 --threshold 475 --window 100 --out results

Writes ``<out>/<conf>.json`` (settings, machine, a row for each seed), ``<out>/<conf>.csv`` (the curves) and, with
matplotlib, ``<out>/<conf>.png``. The return is the mean of the last ``window`` training episodes, exploration included;
``--evaluate 10`` plays ten more at the end as ``alf.bin.evaluate`` does, without it. Seconds are told on the clock,
and those of the processor: on a machine that does something else only the latter count.
"""

import argparse
import csv
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from alf._install import how_to_install


def read_curve(root_dir: str) -> list:
    """Return ``(env_steps, seconds, return, episodes)`` rows of a run, seconds since its first summary."""
    rows = []
    begun = None
    for line in pathlib.Path(root_dir, "train", "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        begun = record["time"] if begun is None else begun
        if "Metrics/AverageReturn" in record:
            rows.append((record["Metrics/EnvironmentSteps"], record["time"] - begun, record["Metrics/AverageReturn"],
                         record["Metrics/NumberOfEpisodes"]))
    return rows


def cpu_seconds(pid: int) -> float:
    """Return the seconds that the threads of a process have run on a processor; NaN where the system does not tell."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_watched(command: list, verbose: bool) -> list:
    """Run a command and return ``(seconds, cpu_seconds)`` of it, fifty times a second; the last ones are its end."""
    output = None if verbose else subprocess.DEVNULL
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=output)
    watched = []
    # Until it is waited for, an ended process still tells its times.
    while not watched or os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.02)
        watched.append((time.monotonic() - began, cpu_seconds(process.pid)))
    watched.append((time.monotonic() - began, cpu_seconds(process.pid)))
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command)
    return watched


def evaluate(root_dir: str, num_episodes: int) -> float:
    """Return the mean return of the last checkpoint of a run, played as ``alf.bin.evaluate`` plays it."""
    path = os.path.join(root_dir, "evaluation.json")
    subprocess.run([sys.executable, "-m", "alf.bin.evaluate", "--root_dir", root_dir, "--num_episodes",
                    str(num_episodes), "--output_file", path], check=True, stdout=subprocess.DEVNULL)
    return json.loads(pathlib.Path(path).read_text())["mean_return"]


def run_seed(arguments, seed: int) -> dict:
    """Train one seed and return its row."""
    root_dir = tempfile.mkdtemp(prefix="alf-learn-")
    params = [f"TrainerConfig.random_seed={seed}", f"TrainerConfig.metric_min_buffer_size={arguments.window}",
              f"TrainerConfig.summary_interval={arguments.summary_interval}", *arguments.conf_param]
    command = [sys.executable, "-m", "alf.bin.train", "--conf", arguments.conf, "--root_dir", root_dir]
    for param in params:
        command += ["--conf_param", param]
    watched = run_watched(command, arguments.verbose)
    wall = watched[-1][0]
    curve = read_curve(root_dir)
    evaluated = evaluate(root_dir, arguments.evaluate) if arguments.evaluate else None
    shutil.rmtree(root_dir)
    reached = next((row for row in curve if row[2] >= arguments.threshold and row[3] >= arguments.window), None)
    # From the start of the process: the curve's clock starts with the first summary.
    reached_seconds = None if reached is None else reached[1] + wall - curve[-1][1]
    return {
        "seed": seed,
        "reached_env_steps": None if reached is None else reached[0],
        "reached_seconds": reached_seconds,
        "reached_cpu_seconds": None if reached is None else next(cpu for seconds, cpu in watched
                                                                 if seconds >= reached_seconds),
        "best_return": max(row[2] for row in curve),
        "last_return": curve[-1][2],
        "evaluated_return": evaluated,
        "env_steps": curve[-1][0],
        "wall_seconds": wall,
        "cpu_seconds": watched[-1][1],
        "steps_per_second": curve[-1][0] / wall,
        "curve": [row[:3] for row in curve],
    }


def plot(rows: list, title: str, path: str) -> None:
    """Draw the curves of all seeds."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for row in rows:
        env_steps, _, returns = zip(*row["curve"], strict=True)
        axes.plot(env_steps, returns, label=f"seed {row['seed']}")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("mean return of recent training episodes")
    axes.set_title(title)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    """Parse the arguments, run, write and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threshold", type=float, default=float("inf"))
    parser.add_argument("--window", type=int, default=100, help="episodes to average over")
    parser.add_argument("--evaluate", type=int, default=0, metavar="EPISODES", help="to play with the trained policy")
    parser.add_argument("--summary_interval", type=int, default=5, help="iterations between points of the curve")
    parser.add_argument("--conf_param", action="append", default=[])
    parser.add_argument("--out", default="results")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        row = run_seed(arguments, seed)
        rows.append(row)
        told = {name: value for name, value in row.items() if name != "curve"}
        print(json.dumps(told), flush=True)
    os.makedirs(arguments.out, exist_ok=True)
    name = os.path.splitext(os.path.basename(arguments.conf))[0]
    reached = [row for row in rows if row["reached_seconds"] is not None]
    report = {
        "conf": arguments.conf,
        "conf_params": arguments.conf_param,
        "threshold": arguments.threshold if arguments.threshold < float("inf") else None,
        "window": arguments.window,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python "
                   f"{platform.python_version()}",
        "reached": f"{len(reached)} of {len(rows)}",
        "median_seconds": statistics.median(row["reached_seconds"] for row in reached) if reached else None,
        "median_cpu_seconds": statistics.median(row["reached_cpu_seconds"] for row in reached) if reached else None,
        "median_env_steps": statistics.median(row["reached_env_steps"] for row in reached) if reached else None,
        "rows": [{k: v for k, v in row.items() if k != "curve"} for row in rows],
    }
    pathlib.Path(arguments.out, f"{name}.json").write_text(json.dumps(report, indent=2))
    with open(pathlib.Path(arguments.out, f"{name}.csv"), "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["seed", "env_steps", "seconds", "return"])
        for row in rows:
            writer.writerows([[row["seed"], *point] for point in row["curve"]])
    try:
        plot(rows, name, str(pathlib.Path(arguments.out, f"{name}.png")))
    except ImportError:
        print(f"no picture: {how_to_install('plot')}")
    print(f"{report['reached']} seeds reached {report['threshold']}; medians: {report['median_seconds']} s, "
          f"{report['median_cpu_seconds']} s of the processor, {report['median_env_steps']} environment steps")


if __name__ == "__main__":
    main()
