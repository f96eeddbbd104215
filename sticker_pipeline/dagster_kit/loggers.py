"""Loggers for a run's terminal output."""

import logging
import re
import time

import dagster as dg
from rich.console import Console

from sticker_pipeline.core.markdown import letters
from sticker_pipeline.core.process.output import CONSOLE, tell
from sticker_pipeline.dagster_kit.compat import failed_by_checks, failed_by_interrupt
from sticker_pipeline.dagster_kit.metadata import SUMMARY

DAGSTERS_OWN = ("[pipes]", "Dependencies for step")  # beginnings of log lines that are not shown
OF_THE_TRAINER = re.compile(r"(epoch|step) [\d,]+ of [\d,]+, \d+ %")  # the trainer's own line says it too
OWN_ERROR = re.compile(r"sticker_pipeline[\w.]+: ")  # beginning of this package's error messages


@dg.logger({}, description="Progress of a run as a person reads it in a terminal.")
def terminal(_: dg.InitLoggerContext) -> logging.Logger:
    logger = logging.Logger("terminal", level=logging.DEBUG)  # of Dagster's events
    logger.addHandler(TerminalHandler(CONSOLE))
    return logger


class TerminalHandler(logging.Handler):
    """Handler that prints steps, progress and summaries.

    The rest stays in the event log.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.started: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, "dagster_meta", {})
        event: dg.DagsterEvent | None = meta.get("dagster_event")
        if event is None:
            message = str(meta.get("orig_message"))
            is_known = message.startswith(DAGSTERS_OWN) or OF_THE_TRAINER.match(message)
            if meta.get("step_key") and not is_known and record.levelno >= logging.INFO:
                tell(f"      {message}", console=self.console, style="dim")
            return
        match event.event_type:
            case dg.DagsterEventType.STEP_START:
                self.started[str(event.step_key)] = time.monotonic()
                tell("    ", (str(event.step_key), "cyan"), console=self.console)
            case dg.DagsterEventType.ASSET_MATERIALIZATION:
                summary = event.materialization.metadata.get(SUMMARY)
                seconds = time.monotonic() - self.started.get(str(event.step_key), time.monotonic())
                what = summary.value if summary else ""
                tell(f"      {what} ", (f"({seconds:.1f} s)", "dim"), console=self.console)
            case dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                evaluation = event.asset_check_evaluation_data
                if not evaluation.passed:
                    colour = "red" if evaluation.severity == dg.AssetCheckSeverity.ERROR else "yellow"
                    name = (f"{evaluation.check_name}:", colour)
                    tell("      ", name, f" {letters(evaluation.description or '')}", console=self.console)
            case dg.DagsterEventType.STEP_FAILURE if not _was_said(event):
                tell("    ", (f"{event.step_key} failed:", "red"), console=self.console)
                tell(f"      {innermost_message(event)}", console=self.console)


def _was_said(event: dg.DagsterEvent) -> bool:
    """Return True for a failure explained already: interrupt or failed checks."""
    failure = event.step_failure_data
    return failed_by_checks(failure) or failed_by_interrupt(failure)


def innermost_message(event: dg.DagsterEvent) -> str:
    """Return a failed step's own error, without Dagster's wrapping and class name.

    This package's error is preferred to its cause.
    """
    error = event.step_failure_data.error
    while error is not None and error.cause is not None and not OWN_ERROR.match(error.message):
        error = error.cause
    return OWN_ERROR.sub("", error.message.strip()) if error is not None else "no message"
