"""Work that kills its process at one slide, as memory that runs out or a library that crashes does."""

import os
import signal
from collections.abc import Callable
from importlib import import_module
from typing import Any


def killed_at(victim: str, setup: str, *arguments: Any, **keywords: Any) -> Callable[[Any], Any]:
    """A stage's set-up, named as module:function, whose work kills its process when it comes to the victim."""
    module, name = setup.split(":")
    work: Callable[[Any], Any] = getattr(import_module(module), name)(*arguments, **keywords)

    def work_or_die(task: Any) -> Any:
        if victim in str(task):
            os.kill(os.getpid(), signal.SIGKILL)
        return work(task)

    return work_or_die
