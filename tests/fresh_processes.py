"""Programs in processes of their own, which begin with torch imported and nothing of the library.

To import torch takes seconds, so one process does it and forks a child for each program.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
SERVER = """
import io, json, os, sys, traceback
import torch

def end_of(program, arguments, folder, output):
    os.chdir(folder)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(os.path.join(output, name), os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = ["-c", *arguments]
    try:
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    else:
        code = 0
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)

for line in sys.stdin:
    if not (child := os.fork()):
        end_of(*json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class FreshProcesses:
    """The process that forks; it is started by the first program."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.count = 0
        self.server: subprocess.Popen[str] | None = None

    def run(self, program: str, arguments: Sequence[str] = (), folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run([sys.executable, "-c", program, *arguments], cwd=folder)``."""
        if not hasattr(os, "fork"):  # Windows
            command = [sys.executable, "-c", program, *arguments]
            return subprocess.run(command, capture_output=True, text=True, cwd=folder)
        if self.server is None:
            command = [sys.executable, "-c", SERVER]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)
        self.count += 1
        output = self.output / str(self.count)
        output.mkdir()
        request = json.dumps([program, list(arguments), str(folder), str(output)])
        print(request, file=self.server.stdin, flush=True)
        code = int(self.server.stdout.readline())
        told = [(output / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(program, code, *told)

    def close(self) -> None:
        if self.server is not None:
            self.server.communicate()
