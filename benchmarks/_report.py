"""What every report of a benchmark has: machine, versions, load; one JSON file and one Markdown file with tables."""

import datetime
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any, Dict, List, Optional, Sequence, Union

DISTRIBUTIONS = ("torch", "numpy", "gymnasium", "mujoco", "optree")
# Of one core: what else runs takes at least this share of what is measured on two cores.
_HIGH_LOAD_PER_CORE = 0.2
_ASK_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def machine() -> str:
    """Return processor, cores that may be used, memory and system in words."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release()}"
    return f"{model} ({platform.machine()}), {cores} cores, {gibibytes:.0f} GiB, {system}"


def versions(python: str, distributions: Sequence[str]) -> Dict[str, str]:
    """Return the versions of Python and of those distributions that are installed, without importing them.

    Args:
        python: the interpreter to ask.
        distributions: names.
    """
    done = subprocess.run([python, "-c", _ASK_VERSIONS, *distributions], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def commit(folder: Union[str, pathlib.Path] = pathlib.Path(__file__).resolve().parents[1]) -> Optional[str]:
    """Return the commit of a checkout, with "+" if files differ from it; None outside of one.

    Args:
        folder: of the checkout; else of this one, which is what is measured.
    """
    try:
        told = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return told.stdout.strip() or None


def load_warning(load_average: float, num_cores: int) -> Optional[str]:
    """Return what to tell about the load of a machine, None if it is low.

    Args:
        load_average: processes that ran or waited to run, over the last minute.
        num_cores: of the machine.
    """
    if load_average <= _HIGH_LOAD_PER_CORE * num_cores:
        return None
    return (f"WARNING: load average {load_average:.2f} on {num_cores} cores before the start: something else is "
            "running. Figures will be too low, and ratios noisy; better wait until it is below "
            f"{_HIGH_LOAD_PER_CORE * num_cores:.1f}.")


def begin(name: str, arguments: Sequence[str]) -> Dict[str, Any]:
    """Print what is measured on, warn when the load is high, and return the head of a report.

    Args:
        name: of the benchmark.
        arguments: words of the command line, without the name.
    """
    load = os.getloadavg()
    warning = load_warning(load[0], os.cpu_count() or 1)
    head = {
        "name": name,
        "command": shlex.join(["python", "-m", "benchmarks.run", name, *arguments]),
        "began": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(sys.executable, DISTRIBUTIONS),
        "commit": commit(),
        "load_average": load,
        "warning": warning,
    }
    print("\n".join(head_lines(head)), flush=True)
    return head


def head_lines(head: Dict[str, Any]) -> List[str]:
    """Return the lines that tell a head.

    Args:
        head: see :func:`begin`.
    """
    told = ", ".join(f"{name} {version}" for name, version in head["versions"].items())
    lines = [f"machine: {head['machine']}", f"versions: {told}", f"commit: {head['commit'] or 'unknown'}",
             f"begun: {head['began']}, load average " + ", ".join(f"{value:.2f}" for value in head["load_average"])]
    return lines + ([head["warning"]] if head["warning"] else [])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    Args:
        header: names of columns.
        rows: a text for each column.
    """
    def line(cells):
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(header), "|" + "---|" * len(header), *map(line, rows)])


def write(out: str, report: Dict[str, Any], body: str) -> None:
    """Write ``<out>/<name>.json`` and ``<out>/<name>.md``, and tell where they are.

    Args:
        out: a directory, made if there is none.
        report: a head, see :func:`begin`, and the results.
        body: Markdown text below the head.
    """
    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{report['name']}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    head = "\n".join(f"- {line}" for line in head_lines(report))
    text = f"# {report['name']}\n\n`{report['command']}`\n\n{head}\n\n{body}\n"
    (folder / f"{report['name']}.md").write_text(text, encoding="utf-8")
    print(f"wrote {folder / report['name']}.json and .md")
