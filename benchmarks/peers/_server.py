"""Answers a runner of benchmarks from another interpreter: opens a case, measures it when asked. Needs only Python.

A script that serves is run as ``python SCRIPT CANDIDATE``. It reads requests and answers, one JSON object a line:

- ``{"open": CASE}``: free what was open, and get ready. Answer ``{"note": TEXT}``, or ``{"error": TEXT}`` if the
  candidate cannot do it.
- ``{"measure": SECONDS}``: ``{"value": FIGURE}``, measured for about so long.
- ``{"close": true}``: ``{}``, with what was open freed.

It ends when its input does.
"""

import json
import os
import sys
import traceback
from typing import Any, Callable, Tuple

#: Opens a case: measures for some seconds, frees what is open, and a text about it.
Opened = Tuple[Callable[[float], float], Callable[[], Any], str]


def serve(open_case: Callable[[str, str], Opened]) -> None:
    """Answer requests until the input ends.

    Args:
        open_case: called with candidate and case; returns how to measure it.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what others print is no answer
    candidate, opened = sys.argv[1], None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "open" in request:
                if opened is not None:  # a measurement of it failed
                    opened, freed = None, opened
                    freed[1]()
                opened = open_case(candidate, request["open"])
                answer = {"note": opened[2]}
            elif "measure" in request:
                answer = {"value": opened[0](request["measure"])}
            else:
                opened, freed = None, opened
                freed[1]()
                answer = {}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
