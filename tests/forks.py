"""The program in processes of its own that need not import its libraries first.

`python -m tests.forks MODULE ...` imports the modules, does nothing else, and forks itself for
each request; the child has its own arguments, environment, folder and files for output, and runs
the program as `python -m` does, to the end of the interpreter. Importing takes far longer than most
of what the tests ask of the program.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import runpy
import select
import subprocess
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any


class Forks:
    """Starts the program in forks of one process, which lives as long as this one.

    Args:
        modules: imported before the first fork.
        folder: the working directory of all.
    """

    def __init__(self, modules: tuple[str, ...], folder: Path):
        self.folder = folder
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.forks", str(requests), str(answers), *modules],
            pass_fds=(requests, answers), stdin=subprocess.DEVNULL, cwd=folder,
        )  # fmt: skip
        os.close(requests)
        os.close(answers)
        #: Processor seconds of the imports, which each child would have taken too.
        self.start_up = float(self._answer(240)["seconds"])

    def run(
        self, module: str, arguments: tuple[str, ...], environment: dict[str, str], timeout: float
    ) -> tuple[subprocess.CompletedProcess[str], float]:
        """What `python -m module arguments` did, and its processor seconds with its children's.

        Raises: subprocess.TimeoutExpired when it has not ended by then; it is killed.
        """
        with tempfile.TemporaryDirectory(prefix="seven_bench_fork_") as place:
            out, err = f"{place}/out", f"{place}/err"
            request = {
                "module": module, "arguments": arguments, "environment": environment,
                "out": out, "err": err,
            }  # fmt: skip
            os.write(self._requests, json.dumps(request).encode() + b"\n")
            pid = int(self._answer(60)["pid"])
            command = [sys.executable, "-m", module, *arguments]
            try:
                ended = self._answer(timeout)
            except TimeoutError:
                os.kill(pid, 9)
                self._answer(60)
                raise subprocess.TimeoutExpired(command, timeout) from None
            words = (Path(path).read_text() for path in (out, err))
            done = subprocess.CompletedProcess(command, int(ended["code"]), *words)
        return done, self.start_up + float(ended["seconds"])

    def close(self) -> None:
        """Ends the process that forks, and waits for it: its time is the tests' time."""
        os.close(self._requests)
        os.close(self._answers)
        self._server.wait(60)

    def _answer(self, timeout: float) -> dict[str, Any]:
        if not select.select([self._answers], [], [], timeout)[0]:
            raise TimeoutError
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._answers, 1)
            if not byte:
                raise RuntimeError("the process that forks the program has ended")
            line += byte
        answer: dict[str, Any] = json.loads(line)
        return answer


def serve(requests: int, answers: int) -> dict[str, Any] | None:
    """Forks for each request; returns None when there are no more, and in a child its request."""

    def tell(**words: object) -> None:
        os.write(answers, json.dumps(words).encode() + b"\n")

    gc.freeze()  # what is imported is for good: a child need not look through it, nor copy it
    used = resource.getrusage(resource.RUSAGE_SELF)
    tell(seconds=used.ru_utime + used.ru_stime)
    lines = os.fdopen(requests, "rb", buffering=0)
    while line := lines.readline():
        request: dict[str, Any] = json.loads(line)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # threads of libraries, of which none holds a lock now
            pid = os.fork()
        if pid == 0:
            lines.close()
            os.close(answers)
            return request
        tell(pid=pid)
        _, status, used = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        tell(code=code, seconds=used.ru_utime + used.ru_stime)
    return None


def become(request: dict[str, Any]) -> None:
    """Gives this process the arguments, environment and output of the one that is asked for."""
    for number, path in ((1, request["out"]), (2, request["err"])):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["seven_bench", *request["arguments"]]


if __name__ == "__main__":
    for name in sys.argv[3:]:
        import_module(name)
    asked = serve(int(sys.argv[1]), int(sys.argv[2]))
    if asked is not None:
        become(asked)
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
