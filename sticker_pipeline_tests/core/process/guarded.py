"""A worker under a guard, with behaviour by argument; test_guard.py starts it.

`obey` ends when asked, with 128 + n; `ignore` never ends, and has a child in its own session that ignores signals too;
`end N` ends at once.
"""

import signal
import subprocess
import sys
import time

from sticker_pipeline.core.process import lifeline

STUBBORN = """
import signal, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
time.sleep(600)
"""

asked: list[int | None] = []
lifeline.listen(asked.append)
if sys.argv[1] == "end":
    sys.exit(int(sys.argv[2]))
if sys.argv[1] == "ignore":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", STUBBORN], start_new_session=True)
print("ready", flush=True)
while not asked or sys.argv[1] == "ignore":
    time.sleep(0.02)
print(f"asked {asked[0]}", flush=True)
sys.exit(128 + (asked[0] or 0))
