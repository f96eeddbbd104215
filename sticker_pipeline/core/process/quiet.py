"""What frameworks say between our lines: kept off the terminal, once per process, before they are imported.

Warnings of our own package still show, errors of frameworks always do, and whoever chooses otherwise (PYTHONWARNINGS,
`python -W`, a variable of a framework's own) is obeyed.
"""

import logging
import os
import sys
import warnings

# By these the frameworks that heed one decide what they say: their errors stay.
ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TF_CPP_MIN_LOG_LEVEL": "2",  # TensorFlow, which TensorBoard loads where it is installed: 2 is errors
    "KMP_WARNINGS": "0",  # OpenMP
    "GRPC_VERBOSITY": "ERROR",
}
# These log as Python does, unasked. An own level stays.
LOGGERS = ("accelerate", "alembic", "diffusers", "httpx", "huggingface_hub", "matplotlib", "open_clip", "peft", "PIL")

OURS = r"sticker_pipeline(\.|$)"
OF_DAGSTER = r".*(is currently in (beta|preview)|is superseded)"  # about how Dagster is used; said of our lines


def quiet() -> None:
    """Let frameworks say nothing but errors in this process and those that it starts."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.ERROR)
    if not sys.warnoptions:  # neither PYTHONWARNINGS nor -W
        quieten_warnings()


def quieten_warnings() -> None:
    """Ignore warnings, but for what our own modules are to blame for: that a framework will change is not theirs."""
    warnings.simplefilter("ignore")
    warnings.filterwarnings("default", module=OURS)
    for announced in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=announced, module=OURS)
    warnings.filterwarnings("ignore", message=OF_DAGSTER, module=OURS)
