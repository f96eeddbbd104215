"""A trainer that needs six seconds for its checkpoint when it is stopped, twice Ray's default grace; it has a child."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from dagster_pipes import open_dagster_pipes

folder, stopped = Path(sys.argv[1]), []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stopped.append(1))
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open_dagster_pipes() as pipes:
    (folder / "begun").touch()
    while not stopped:
        time.sleep(0.1)
    pipes.log.info("saving")
    time.sleep(6)
    (folder / "checkpoint").write_text("saved")
