"""`sticker-pipeline` and `python -m sticker_pipeline`.

Small, so that an early Ctrl-C ends it without a traceback.
"""

import signal


def run() -> None:
    """Run the command line."""
    heard = signal.signal(signal.SIGINT, signal.SIG_DFL)
    if heard == signal.SIG_IGN:
        signal.signal(signal.SIGINT, heard)
    from sticker_pipeline.cli import commands as cli

    signal.signal(signal.SIGINT, heard)
    cli.run()


if __name__ == "__main__":
    run()
