"""Environment variables of this project: one row for each, from which docs/reference/environment.md is generated.

A variable is read where its value is used; `test_environment_table.py` compares the rows with the names in the code.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """A variable of the environment. `default`: "" for none; `internal`: set by the program alone."""

    name: str
    meaning: str
    default: str = ""
    internal: bool = False


VARIABLES = (
    Variable("STICKER_CHARACTERS", "the folder of the characters", "data/characters"),
    Variable(
        "STICKER_ARTIFACTS",
        "the folder of everything that is made, or an address in an object store such as `s3://bucket/artifacts`",
        "artifacts",
    ),
    Variable("STICKER_SCRATCH", "the folder of local copies of artifacts in an object store", "scratch"),
    Variable("STICKER_MODELS", "the folder of the models", "data/models"),
    Variable("STICKER_PROFILE", "the profile of characters whose character.yaml names none", "embedded"),
    Variable("STICKER_RETRAIN", "when LoRAs are trained: a cron schedule, UTC", "0 3 * * *"),
    Variable("STICKER_EXECUTOR", "where steps run: `local`, `ray` or `k8s`", "local"),
    Variable(
        "STICKER_STEP_GPUS",
        "GPUs that a step of the pool `gpu` requests from Ray or Kubernetes; 0 on a fleet without GPUs",
        "1",
    ),
    Variable("STICKER_STEP_CPUS", "CPUs that each step requests from Ray, which are its threads too", "1"),
    Variable("STICKER_OWNER", "owners of the assets in the UI, such as `ada@example.org, team:stickers`"),
    Variable(
        "STICKER_UI",
        "the address of the Dagster UI in links and messages; `make ui` listens at its port, unless that is of another "
        "machine such as a proxy",
        "http://127.0.0.1:3000",
    ),
    Variable("STICKER_UI_HOSTS", "further addresses by which browsers reach the UI, with spaces between them"),
    Variable(
        "STICKER_STOP_GRACE_SECONDS",
        "seconds that a training which is stopped has for its checkpoint, after each of SIGINT and SIGTERM",
        "20",
        internal=True,
    ),
    Variable("STICKER_PROGRAM", "the command as it was typed, for messages that name it", internal=True),
    Variable("STICKER_GUARD", "the mark of every process that a guard has started", internal=True),
    Variable("STICKER_LIFELINE", "says that standard input is the lifeline of the process", internal=True),
    Variable("CIVITAI_TOKEN", "the API key for downloads from Civitai that need a login; sent to civitai.com alone"),
    Variable("TELEGRAM_BOT_TOKEN", "the token of the bot that sends packs to Telegram; sent to the Bot API alone"),
    Variable("TELEGRAM_USER_ID", "the number of the Telegram account that owns the packs"),
    Variable("HF_TOKEN", "the token for models of the Hugging Face hub that need a login"),
    Variable("HF_ENDPOINT", "the address of a mirror of the Hugging Face hub", "the public hub"),
    Variable("HF_HUB_OFFLINE", "forbids downloads from the hub"),
    Variable(
        "AWS_ACCESS_KEY_ID",
        "with `AWS_SECRET_ACCESS_KEY`, the key of the object store; a role needs none",
    ),
    Variable("AWS_REGION", "the region of the bucket", "us-east-1"),
    Variable("AWS_ENDPOINT_URL", "the address of an object store other than Amazon's", "Amazon's"),
    Variable("DAGSTER_HOME", "the folder of the run history, with `dagster.yaml`", ".dagster"),
    Variable("OMP_NUM_THREADS", "the most threads of a process on the CPU", "the cores"),
    Variable("CUDA_VISIBLE_DEVICES", "the GPUs that are used; empty or -1: none", "all"),
)
