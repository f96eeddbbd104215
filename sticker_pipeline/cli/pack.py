"""Commands on sticker packs: make one, and send it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from sticker_pipeline.cli.guarded import work
from sticker_pipeline.core.character import Platform
from sticker_pipeline.core.process.output import tell
from sticker_pipeline.core.texts import UserError, counted

if TYPE_CHECKING:
    from sticker_pipeline.packing.pack_record import PackRecord
    from sticker_pipeline.packing.telegram import Sending

PLATFORMS = get_args(Platform)


@click.command("pack")
@click.argument("name", metavar="NAME|FOLDER")
@click.option(
    "--platform",
    "platforms",
    type=click.Choice(PLATFORMS),
    multiple=True,
    help="A platform, again for each further one. Default: pack.platforms of character.yaml, or five of them.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The new folder of a FOLDER's pack. Default: FOLDER-pack.")
def pack(name: str, platforms: tuple[str, ...], out: Path | None) -> None:
    """Make the pack of a character NAME or of a FOLDER.

    A character's pack has images of its release, if there is one, and its own stickers and GIFs. A FOLDER of
    images needs no character, no model and no GPU: its files' names say what each sticker is for. What a person decides
    in pack/picks.yaml and pack/override of either folder is read and never written.
    """
    from sticker_pipeline.core.character import character_names, unknown_character
    from sticker_pipeline.defs.resources import workspace_from_environment

    chosen = [argument for platform in platforms for argument in ("--platform", platform)]
    characters = workspace_from_environment().characters_folder
    if name in character_names(characters):
        if out is not None:
            raise click.UsageError("--out is for a FOLDER: a character's pack is an artifact.")
        work("pack", name, *chosen)
    elif not Path(name).is_dir():
        raise click.ClickException(f"{unknown_character(characters, name)} There is no folder of that name either.")
    else:
        work("pack-folder", *chosen, *(["--out", str(out)] if out else []), "--", name)  # it may begin with -


@click.command("send-pack")
@click.argument("name", metavar="NAME|FOLDER")
@click.argument("platform", type=click.Choice(["telegram"]))
@click.option("--yes", is_flag=True, help="Send. Without it, the steps are listed and nothing is changed.")
@click.option("--api-url", default="https://api.telegram.org", show_default=True, help="Another server, as for tests.")
def send_pack(name: str, platform: str, yes: bool, api_url: str) -> None:
    """Send the pack of a character NAME or FOLDER to Telegram.

    FOLDER is that of a pack. It needs TELEGRAM_BOT_TOKEN, a bot's from @BotFather, and TELEGRAM_USER_ID, the owner's.
    Sent again, only what has changed is replaced, and the address stays.
    """
    from sticker_pipeline.packing.bot_api import BotApi, account
    from sticker_pipeline.packing.pack_record import read_pack
    from sticker_pipeline.packing.telegram import prepare

    with _sets_of(name, platform) as (folder, memories):
        sets = sorted(path for path in folder.iterdir() if (path / "pack.json").is_file()) if folder.is_dir() else []
        if not sets:
            raise click.ClickException(f"{folder} has no set: sticker-pipeline pack {name} --platform {platform}")
        try:
            api = BotApi(account(os.environ), url=api_url, say=tell)
            for path in sets:
                record = read_pack(path)
                _send(record, prepare(record, path, memories, api), api, yes)
        except UserError as error:
            raise click.ClickException(str(error)) from error
    if not yes:
        tell("Nothing was sent. To send it: the same command with --yes")


def _send(record: "PackRecord", sending: "Sending", api: object, yes: bool) -> None:
    import time

    from sticker_pipeline.core.progress import counter, throttled
    from sticker_pipeline.packing.telegram import carry_out, lines

    tell((record.title, "bold"), f" ({record.kind}, {counted(len(record.stickers), 'sticker')})")
    for line in lines(sending):
        tell(f"  {line}")
    if yes:
        count = counter(throttled(lambda progress: tell(f"  {progress.text}"), 5.0, time.monotonic))
        tell(f"  {carry_out(sending, api, count)}")  # type: ignore[arg-type]


@contextmanager
def _sets_of(name: str, platform: str) -> Iterator[tuple[Path, Path]]:
    """Yield folders: the platform's sets; earlier sendings, saved at the end."""
    from sticker_pipeline.core.character import character_names
    from sticker_pipeline.defs.resources import workspace_from_environment

    workspace = workspace_from_environment()
    if name in character_names(workspace.characters_folder):
        store = workspace.store
        pack = store.find(name, "sticker_pack")
        folder = pack.fetched() if pack else store.folder(name, "sticker_pack")
        with store.working(name, "sent-packs"):
            yield folder / platform, store.work(name, "sent-packs")
        return
    folder = Path(name)
    if not folder.is_dir():
        raise click.ClickException(f"{name} is neither a character nor a folder.")
    yield folder / platform, folder.resolve().with_name(f"{folder.resolve().name}-sent")
