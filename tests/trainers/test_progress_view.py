"""What is shown while a run trains."""

import io
import os
import pty
import subprocess
import sys

import pytest

from alf.trainers import _progress_view
from alf.trainers._progress_view import ProgressView, told_duration, told_number


@pytest.mark.parametrize("seconds, told", [(None, "-"), (float("inf"), "-"), (0.4, "0:00"), (59.6, "1:00"),
                                           (3723, "1:02:03"), (360000, "100:00:00")])
def test_durations_have_the_units_that_matter(seconds, told):
    assert told_duration(seconds) == told


@pytest.mark.parametrize("value, told", [(None, "-"), (12345, "12,345"), (0.53127, "0.5313"), (12345.6, "12,346"),
                                         ("[1.0, 2.0]", "[1.0, 2.0]"), (float("nan"), "nan")])
def test_numbers_have_thousands_separators_and_four_digits(value, told):
    assert told_number(value) == told


def test_speed_and_remaining_time_are_those_of_the_last_ten_seconds(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(_progress_view.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    view = ProgressView(stream)
    view.start()
    # 100 steps a second for 20 s, then 400: of 100 % at 0.5 % a second, 50 % remain after 30 s.
    for t in range(0, 35, 5):
        clock[0] = 1000.0 + t
        view.update(0.35 + 0.005 * t, dict, 100 * min(t, 20) + 400 * max(t - 20, 0))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 7
    assert lines[0] == "env steps 0  steps/s -  done 35.0%  ETA -"
    assert lines[4] == "env steps 2,000  steps/s 100  done 45.0%  ETA 1:50"
    assert lines[6] == "env steps 6,000  steps/s 400  done 50.0%  ETA 1:40"


def test_plain_lines_come_now_and_then_but_always_at_the_end(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(_progress_view.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    view = ProgressView(stream)
    for i in range(10):
        clock[0] = float(i)
        view.update(0.1, lambda: {"iteration": 3}, 1)
    view.update(1.0, lambda: {"iteration": 4}, 1, final=True)
    shown = [line.split("  ")[0] for line in stream.getvalue().splitlines()]
    assert shown == ["iteration 3", "iteration 3", "iteration 4"]


@pytest.mark.parametrize("stream", [None, "closed", "broken"])
def test_a_stream_that_is_gone_ends_the_show_only(stream, monkeypatch):
    if stream == "closed":
        stream = io.StringIO()
        stream.close()
    elif stream == "broken":
        reader, writer = os.pipe()
        os.close(reader)
        stream = open(writer, "w")
    if stream is None:
        monkeypatch.setattr(sys, "stdout", None)
    view = ProgressView(stream)
    view.start()
    for _ in range(2):
        view.update(1.0, lambda: {"iteration": 1}, 1, final=True)
    view.close()
    if stream is not None:
        stream.close()  # flushes what is left, to nowhere


_SHOW = """
import sys
from absl import logging
from alf.trainers._progress_view import ProgressView
from alf.trainers._run_log import start_console
start_console(0)
view = ProgressView()
view.start()
for i in range(3):
    view.update(i / 3, lambda: {"iteration": i, "return": 1.5}, 10 * i, final=True)
    logging.info("line %d", i)
view.close()
"""


def _on_terminal(width: int, script: str = _SHOW, **environment) -> str:
    ours, theirs = pty.openpty()
    import fcntl
    import struct
    import termios
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    # A width that the shell exported would win over that of the terminal.
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen([sys.executable, "-c", script], stdin=theirs, stdout=theirs, stderr=theirs,
                               env={**inherited, "TERM": "xterm-256color", **environment})
    os.close(theirs)
    output = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # how Linux tells that the other side was closed
            break
        if not chunk:
            break
        output += chunk
    os.close(ours)
    assert process.wait() == 0, output
    return output.decode()


def _screen(output: str) -> list:
    """Return what stands on the screen in the end, interpreting the few codes that are used."""
    import re
    lines, row, column = [""], 0, 0
    for code, count, text in re.findall(r"\x1b\[\??(\d*)([A-Za-z])|([^\x1b])", output):
        if text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif text == "\r":
            column = 0
        elif text:
            lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + 1:]
            column += 1
        elif count == "A":
            row -= int(code or 1)
        elif count == "K":
            lines[row] = ""
    return [line.rstrip() for line in lines]


def test_table_on_a_terminal_gives_way_to_log_lines():
    screen = [line for line in _screen(_on_terminal(100)) if line]
    assert [line[9:] for line in screen[:3]] == ["I line 0", "I line 1", "I line 2"]
    assert screen[3].split() == ["iteration", "return", "env", "steps", "steps/s", "done", "ETA"]
    assert screen[4].split()[:3] == ["2", "1.5", "20"] and screen[4].split()[-2:] == ["66.7%", "0:00"]
    assert len(screen) == 5


def test_narrow_terminal_has_the_table_on_end():
    screen = [line for line in _screen(_on_terminal(20)) if line]
    names = [line.rsplit(maxsplit=1)[0] for line in screen[3:]]
    assert names == ["iteration", "return", "env steps", "steps/s", "done", "ETA"]
    assert all(len(line) <= 20 for line in screen)


def test_no_color_and_dumb_terminals():
    assert "\x1b[3" not in _on_terminal(100, NO_COLOR="1")  # no colour
    output = _on_terminal(100, TERM="dumb")
    assert "\x1b" not in output
    assert output.splitlines()[0].startswith("iteration 0  return 1.5  env steps 0")


_TELL = """
from alf.trainers._progress_view import ProgressView
view = ProgressView()
view.start()
view.update(0.5, lambda: {"iteration": 1}, 10, final=True)
view.tell("update    1.500   75.0 % [/bold] :smile:\\nall       2.000  100.0 %")
view.close()
view.tell("the end")
"""


def test_texts_stay_above_the_table_as_they_are():
    screen = [line for line in _screen(_on_terminal(100, _TELL)) if line]
    assert screen[:2] == ["update    1.500   75.0 % [/bold] :smile:", "all       2.000  100.0 %"]
    assert screen[2].split()[0] == "iteration" and screen[-1] == "the end"


def test_texts_wider_than_the_terminal_are_shown_whole():
    output = _on_terminal(20, _TELL, NO_COLOR="1")
    assert "".join("update    1.500   75.0 % [/bold] :smile:".split()) in "".join(output.split())
    assert "update    1.500   75.0 % [/bold] :smile:" in _on_terminal(20, _TELL, TERM="dumb")
