"""A process that has imported what takes seconds, and forks a child for each command that a test asks for.

`processes.py` starts it with one end of a socket as standard input. A message is a JSON object (module, arguments,
environment, folder) with four file descriptors: where to answer, and the child's standard input, output and error.
The answers are two lines: the child's process number, and, when it has ended, its exit code as `subprocess` counts it.

The child leaves the loop and runs the module's `main` at the top of the program, so that exceptions, exit codes
and the end of the interpreter are Python's own. No thread may run here: a fork would not take it along.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

HEAVY = (
    *("torch", "transformers", "peft", "datasets", "evaluate", "pyarrow.parquet", "safetensors.torch", "rich.live"),
    *("sklearn.metrics", "scipy.stats", "rouge_score.rouge_scorer", "hydra._internal.hydra", "torch.optim"),
    *("transformers.models.bert.modeling_bert", "transformers.models.llama.modeling_llama"),
    *("transformers.models.t5.modeling_t5", "transformers.models.auto.modeling_auto", "transformers.generation.utils"),
    *("transformers.trainer_pt_utils", "torch.utils.flop_counter", "torch.distributed", "torch._dynamo"),
    *("hydra_plugins.hydra_submitit_launcher.submitit_launcher", "matplotlib.pyplot", "jinja2"),
    *("selfdistill_cli.experiment", "selfdistill_cli.train", "selfdistill_cli.evaluate"),
    *("selfdistill_cli.reports.command", "selfdistill_cli.evaluation.metrics", "transformers.optimization"),
    *("transformers.models.bert.tokenization_bert", "transformers.trainer_utils", "hydra.experimental.callback"),
)
"""What runs import sooner or later; what is missing here is imported in the child, as anywhere."""


def constants_below(home: str) -> list[tuple[dict[str, Any], str]]:
    """Where the Hugging Face libraries hold a path below HF_HOME, which they read when they are imported."""
    packages = ("huggingface_hub", "datasets", "evaluate", "transformers")
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in packages]
    return [
        (vars(module), name)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, (str, Path)) and str(value).startswith(home)
    ]


def serve(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork at each message. Returns the message and its files in a child, None at the end of the tests."""
    children: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control], [], [], 0.005 if children else None)
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with children.pop(pid) as reply, contextlib.suppress(OSError):  # nobody waits for it any more
                    reply.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
        if not ready:
            continue
        content, files, _, _ = socket.recv_fds(control, 1 << 20, 4)
        if not content:
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            return None
        reply = socket.socket(fileno=files[0])
        pid = os.fork()
        if pid == 0:
            for other in (control, reply, *children.values()):
                other.close()
            return json.loads(content), files[1:]
        for file in files[1:]:
            os.close(file)
        children[pid] = reply
        with contextlib.suppress(OSError):
            reply.sendall(b"%d\n" % pid)


def become(message: dict[str, Any], files: list[int], paths: list[tuple[dict[str, Any], str]], home: str) -> Any:
    """Make this child the process that `python -m <module> <arguments>` would be. Returns the module's `main`."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(message["folder"])
    os.environ.clear()
    os.environ.update(message["environment"])
    for values, name in paths:
        values[name] = type(values[name])(str(values[name]).replace(home, os.environ["HF_HOME"], 1))
    from selfdistill_cli.system import fault_points

    importlib.reload(fault_points)
    # In front stood this program's folder, and PYTHONPATH.
    sys.path[0:2] = [message["folder"], *os.environ["PYTHONPATH"].split(os.pathsep)]
    module = importlib.import_module(message["module"])
    sys.argv = [str(module.__file__), *message["arguments"]]
    return module.main


def _measure_and_scan() -> None:
    """What every process does once and keeps: Hydra's look for plugins, the measure of this processor."""
    import torch
    from hydra.core.plugins import Plugins

    from selfdistill_cli.engine.utilization import matmul_ceiling

    Plugins.instance()
    matmul_ceiling("fp32", torch.device("cpu"))


def _program() -> Any:
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _measure_and_scan()
    home = os.environ["HF_HOME"]
    paths = constants_below(home)
    tasks = Path("/proc/self/task")
    assert not tasks.exists() or len(list(tasks.iterdir())) == 1, "a module that was imported has started a thread"
    gc.collect()
    gc.freeze()  # the children would copy every page that the collector marks
    asked = serve(socket.socket(fileno=0))
    return become(*asked, paths, home) if asked else None


if __name__ == "__main__":
    main = _program()
    if main is not None:
        main()
