"""Suppression of frameworks' messages, before they are imported.

Our warnings and all errors stay. PYTHONWARNINGS, `python -W` and frameworks' own variables take precedence.
"""

import logging
import os
import sys
import warnings

ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TF_CPP_MIN_LOG_LEVEL": "2",  # TensorFlow, which TensorBoard loads if installed: 2 is errors
    "KMP_WARNINGS": "0",  # OpenMP
    "GRPC_VERBOSITY": "ERROR",
}
# These log by default. A level of their own stays.
LOGGERS = ("accelerate", "alembic", "diffusers", "httpx", "huggingface_hub", "matplotlib", "open_clip", "peft", "PIL")

OURS = r"sticker_pipeline(\.|$)"
OF_DAGSTER = r".*(is currently in (beta|preview)|is superseded)"  # about uses of Dagster, attributed to our lines


def quiet() -> None:
    """Limit frameworks to errors in this process and its children."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.ERROR)
    if not sys.warnoptions:  # neither PYTHONWARNINGS nor -W
        quieten_warnings()


def quieten_warnings() -> None:
    """Ignore all warnings but our modules', and there announced changes of frameworks."""
    warnings.simplefilter("ignore")
    warnings.filterwarnings("default", module=OURS)
    for announced in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=announced, module=OURS)
    warnings.filterwarnings("ignore", message=OF_DAGSTER, module=OURS)
