"""A trainer that ignores signals: `ignore-int` saves only on SIGTERM, `ignore-all` never ends by itself.

Both have a child in their process group, as torchrun has.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

from dagster_pipes import open_dagster_pipes

behaviour, folder = sys.argv[1], Path(sys.argv[2])
signal.signal(signal.SIGINT, signal.SIG_IGN)


def save_and_leave(*_: object) -> None:
    (folder / "checkpoint").write_text("saved")
    sys.exit(143)


signal.signal(signal.SIGTERM, save_and_leave if behaviour == "ignore-int" else signal.SIG_IGN)
child = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child])
with open_dagster_pipes() as pipes:
    pipes.report_custom_message({"step": 1, "total_steps": 1000})
    if behaviour == "ignore-all":
        (folder / "checkpoint").write_text("saved earlier")
    while True:
        time.sleep(0.1)
