"""The desk's web application (Starlette): pages, JSON, images; edits with a token.

Behind `cli/door.py`, which checks Host and Origin. Its policy allows own scripts, styles and images alone.
"""

import secrets
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib.resources import files
from typing import Any

import jinja2
import numpy as np
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from sticker_pipeline.benchmark.releases import NotRecorded, read, releases_folder
from sticker_pipeline.benchmark.tracing import releases_with, sources_of
from sticker_pipeline.core.character import CharacterError, character_names, describe_problems
from sticker_pipeline.core.profile import ProfileError
from sticker_pipeline.core.storage import content_hash
from sticker_pipeline.core.texts import UserError
from sticker_pipeline.desk import captions, images, pack, rows, settings_file
from sticker_pipeline.desk.edits import Conflict, EditError
from sticker_pipeline.desk.images import NoImage
from sticker_pipeline.desk.overview import Subject, overview
from sticker_pipeline.desk.requests import Body, CaptionChange, RollBack, SettingsChange
from sticker_pipeline.desk.rows import FilterError
from sticker_pipeline.desk.session import MOST_EXAMPLES, Session
from sticker_pipeline.packing.page import PAGE

TOKEN = "x-desk-token"
MOST_BYTES = 4_000_000  # of a request: the ids of some 100,000 frames
FIRST_ROWS, MOST_ROWS = 120, 240  # FIRST_ROWS: PAGE of grid.js
IMAGES_AT_ONCE = 2  # made small: more would make filters wait
STATIC = {".js": "text/javascript", ".css": "text/css"}  # of pages/, by suffix
POLICY = "; ".join(
    [
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
FOREVER = {"cache-control": "private, max-age=31536000, immutable"}  # for addresses with a hash of the content
EACH_TIME = {"cache-control": "no-cache"}
STATUS: Mapping[type[Exception], int] = {
    Conflict: 409,
    EditError: 400,
    FilterError: 400,
    CharacterError: 404,
    ProfileError: 404,
    NoImage: 404,
    UserError: 422,
    OSError: 507,
}


def desk_app(session: Session, *, read_only: bool = False) -> Any:
    """Return the application; its pages have the token that every edit needs."""
    token = secrets.token_urlsafe(32)
    page = partial(_page, token="" if read_only else token, read_only=read_only)

    def index(request: Request) -> Response:
        return page(request, "index.html.jinja", names=character_names(session.characters))

    def character(request: Request) -> Response:
        name = request.path_params["name"]
        session.character(name)
        first = _frames(session, name, {"count": str(FIRST_ROWS)}) if session.is_in_memory(name) else None
        return page(request, "character.html.jinja", name=name, first=first)

    limiter = CapacityLimiter(IMAGES_AT_ONCE)

    def few(handle: Callable[[Session, Request], Response]) -> Callable[[Request], Any]:
        async def respond(request: Request) -> Response:
            return await run_sync(handle, session, request, limiter=limiter)

        return respond

    def writing(handle: Callable[[str, Any], Any], model: type[Body]) -> Callable[[Request], Any]:
        async def respond(request: Request) -> Response:
            if read_only:
                raise HTTPException(403, "This desk is for viewing only.")
            if not secrets.compare_digest(request.headers.get(TOKEN, "").encode(), token.encode()):
                raise HTTPException(403, "This page is of an earlier start of the desk: load it again.")
            body = _body(await _bytes(request), model)
            return JSONResponse(await run_in_threadpool(handle, request.path_params["name"], body))

        return respond

    reading = {
        "frames": lambda name, query: _frames(session, name, query),
        "tags": lambda name, query: _tags(session, name, query),
        "paths": lambda name, query: rows.files_of(session.rows(name), _matching(session.rows(name), query)),
        "file": lambda name, query: _file(session, name, query),
        "ids": lambda name, query: _ids(session, name, query),
        "uses": lambda name, query: _uses(session, name, query),
        "sources": lambda name, query: _sources(session, name, query),
        "duplicates": lambda name, query: _duplicates(session, name, query),
        "overview": lambda name, query: _overview(session, name),
        "pack": lambda name, query: pack.pack_of(session.character(name), session.store),
        "run": lambda name, query: session.runs.state(name),
    }
    changing: dict[str, tuple[Callable[[str, Any], Any], type[Body]]] = {
        "captions": (lambda name, body: _captions(session, name, body), CaptionChange),
        "settings": (lambda name, body: _settings(session, name, body), SettingsChange),
        "undo": (lambda name, body: _written(session, name, *session.undo(name)), Body),
        "update": (lambda name, body: session.runs.update(session.character(name).name), Body),
        "cancel": (lambda name, body: session.runs.cancel(session.character(name).name), Body),
        "roll-back": (lambda name, body: session.runs.roll_back(name, body.number, body.reason), RollBack),
    }
    routes = [
        Route("/", index),
        Route("/c/{name}", character),
        Route("/static/{file}", _static),
        Route("/c/{name}/cover.webp", few(_cover)),
        Route("/c/{name}/frame/{frame}", few(_frame_image)),
        Route("/c/{name}/image/{asset}/{file:path}", few(_artifact_image)),
        Route("/c/{name}/pack/{file:path}", few(_pack_page)),
        *(Route(f"/c/{{name}}/api/{path}", _json(handle)) for path, handle in reading.items()),
        *(Route(f"/c/{{name}}/api/{path}", writing(*how), methods=["POST"]) for path, how in changing.items()),
    ]
    app = Starlette(routes=routes, exception_handlers=dict.fromkeys((HTTPException, *STATUS), _problem))
    return _with_policy(GZipMiddleware(app, minimum_size=2_000))


def _page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    text = _templates().get_template(template).render(root=request.scope.get("root_path", ""), **values)
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status, headers={"cache-control": "no-store"})


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.PackageLoader("sticker_pipeline.desk", "pages"), autoescape=True)


def _json(handle: Callable[[str, Mapping[str, str]], Any]) -> Callable[[Request], Response]:
    def respond(request: Request) -> Response:
        result = handle(request.path_params["name"], request.query_params)
        return JSONResponse(result, headers={"cache-control": "no-store"})

    return respond


async def _bytes(request: Request) -> bytes:
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MOST_BYTES:
            raise HTTPException(413, f"A request has at most {MOST_BYTES:,} bytes: select by a filter.")
    return data


def _body(data: bytes, model: type[Body]) -> Body:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise HTTPException(400, " ".join(describe_problems("The request", error, model))) from error


async def _problem(request: Request, error: Exception) -> Response:
    """Return an error's sentence, as a page or as JSON."""
    if isinstance(error, HTTPException):
        sentence, status = str(error.detail), error.status_code
    else:
        sentence, status = str(error), next(status for kind, status in STATUS.items() if isinstance(error, kind))
    if "text/html" in request.headers.get("accept", ""):
        return _page(request, "problem.html.jinja", status, sentence=sentence)
    return JSONResponse({"error": sentence}, status)


def _frames(session: Session, name: str, query: Mapping[str, str]) -> dict[str, Any]:
    of = session.rows(name)
    found = _matching(of, query)
    start, count = _number(query, "start", 0), min(_number(query, "count", MOST_ROWS), MOST_ROWS)
    return {
        "total": len(found),
        "all": len(of.table),
        "counts": rows.counts(of),
        "pending": session.pending(name),
        "undo": session.steps_back(name),
        "rows": rows.window(of, found, start, count),
    }


def _ids(session: Session, name: str, query: Mapping[str, str]) -> list[list[str]]:
    """Return frame and file of `count` rows of a filter, from `start` on."""
    of = session.rows(name)
    start = _number(query, "start", 0)
    found = _matching(of, query)[start : start + _number(query, "count", MOST_ROWS)]
    part: list[list[str]] = of.table.iloc[found][["frame_id", "path"]].to_numpy().tolist()
    return part


def _matching(of: rows.Rows, query: Mapping[str, str]) -> np.ndarray:
    keys = ("tags", "group", "state", "source", "order")
    return rows.matching(of, **{key: str(query[key]) for key in keys if query.get(key)})


def _number(query: Mapping[str, str], key: str, otherwise: int) -> int:
    try:
        return max(0, int(query.get(key, otherwise)))
    except ValueError as error:
        raise FilterError(f"{key}={query[key]!r} is no number.") from error


def _tags(session: Session, name: str, query: Mapping[str, str]) -> list[tuple[str, int]]:
    of = session.rows(name)
    return rows.suggestions(of, query.get("q", ""), _matching(of, query))


def _file(session: Session, name: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Return a file's caption on the disk, frames and left-out tags."""
    of, path = session.rows(name), query.get("path", "")
    texts = session.captions(name)
    caption = texts.of(path)
    place = np.flatnonzero((of.table["path"] == path).to_numpy())
    return {
        "path": path,
        "caption": caption.text,
        "caption_file": caption.file,
        "written": caption.data is not None,
        "shared": texts.shared(path),
        "frames": rows.window(of, place, 0, MOST_ROWS),
        "dropped": rows.dropped_tags(session.store, name, of.table["frame_id"].iloc[place].tolist()),
    }


def _uses(session: Session, name: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the releases of all characters made of the file's bytes."""
    table, path = session.rows(name).table, query.get("path", "")
    hashes = table.loc[table["path"] == path, "sha256"]
    if hashes.empty or not hashes.iloc[0]:
        raise NoImage(f"{name} has no image {path}")
    uses = releases_with(session.store, str(hashes.iloc[0])).found
    return [
        {key: getattr(use, key) for key in ("character", "number", "is_current", "path", "split", "weight")}
        for use in uses
    ]


def _sources(session: Session, name: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Return the files that release `number` was made of."""
    folder = releases_folder(session.store, name)
    try:
        found = sources_of(read(folder, _number(query, "number", 0)))
    except NotRecorded as error:
        return {"files": [], "why_not": str(error)}
    return {"files": found.to_dict("records"), "why_not": ""}


def _duplicates(session: Session, name: str, query: Mapping[str, str]) -> dict[str, Any]:
    total, shown = rows.duplicates(session.rows(name), _number(query, "start", 0), FIRST_ROWS)
    return {"total": total, "groups": shown}


def _overview(session: Session, name: str) -> dict[str, Any]:
    character = session.character(name)
    subject = Subject(
        character, session.profile(character), session.store, session.rows(name), session.runs.checks(name)
    )
    return overview(subject)


def _captions(session: Session, name: str, body: CaptionChange) -> dict[str, Any]:
    """Edit captions, or show what an edit would do.

    Raises Conflict for a caption that is another than expected.
    """
    for image, seen in body.expected.items():
        if (now := session.captions(name).of(image).text) != seen:
            raise Conflict(f"The caption of {image} was changed meanwhile. It is now: {now}")
    planned, problems = session.plan(name, _selected(session, name, body), _change(body))
    digest = content_hash([[edit.file, _text(edit.before), _text(edit.after)] for edit in planned])
    if body.preview:
        shown = planned[:MOST_EXAMPLES]
        examples = [{"file": edit.file, "before": _text(edit.before), "after": _text(edit.after)} for edit in shown]
        return {"files": len(planned), "examples": examples, "problems": problems[:MOST_EXAMPLES], "digest": digest}
    if body.seen is not None and body.seen != digest:
        raise Conflict("Captions were changed meanwhile: look at the change again.")
    made, more = session.write(name, planned)
    return _written(session, name, made, [*problems, *more])


def _selected(session: Session, name: str, body: CaptionChange) -> np.ndarray:
    of = session.rows(name)
    if body.frames is not None:
        return np.flatnonzero(of.table["frame_id"].isin(body.frames).to_numpy())
    if body.path is not None:
        return np.flatnonzero((of.table["path"] == body.path).to_numpy())
    found = rows.matching(of, **body.filter.model_dump())
    return found[~of.table["frame_id"].iloc[found].isin(body.without).to_numpy()]


def _change(body: CaptionChange) -> captions.Change:
    if body.do == "replace":
        return captions.replace(body.text, body.by)
    if body.do == "set":
        return captions.set_to(body.text)
    return (captions.add if body.do == "add" else captions.remove)([body.text])


def _settings(session: Session, name: str, body: SettingsChange) -> dict[str, Any]:
    """Show a change of character.yaml, or write it once seen."""
    edit = session.settings_edit(name, body.changes)
    if body.seen is None:
        return {"difference": settings_file.difference(edit)}
    session.write_settings(name, edit, body.seen)
    return _written(session, name, 1, [])


def _written(session: Session, name: str, made: int, problems: list[str]) -> dict[str, Any]:
    return {"made": made, "problems": problems, "undo": session.steps_back(name), "pending": session.pending(name)}


def _text(data: bytes | None) -> str:
    return "" if data is None else data.decode("utf-8", "replace")


def _static(request: Request) -> Response:
    file = request.path_params["file"]
    kind = STATIC.get(file[file.rfind(".") :])
    found = [entry for entry in (files("sticker_pipeline.desk") / "pages").iterdir() if entry.name == file]
    if not kind or not found:
        raise HTTPException(404, "There is no such file.")
    return Response(found[0].read_bytes(), media_type=kind, headers=EACH_TIME)


def _cover(session: Session, request: Request) -> Response:
    """Return the character's first frame, small."""
    name = request.path_params["name"]
    session.character(name)
    artifact = session.store.find(name, "frames")
    first = next((file for file in sorted(artifact.files) if file.startswith("files/")), "") if artifact else ""
    if artifact is None or not first:
        raise NoImage(f"{name} has no frame yet")
    data = images.small(session.store, artifact.fetched([first]) / first, artifact.sha256(first))
    return Response(data, media_type="image/webp", headers={"cache-control": "private, max-age=60"})


def _frame_image(session: Session, request: Request) -> Response:
    """Return a frame: small, or with `?full` its PNG."""
    name, (frame, _, kind) = request.path_params["name"], request.path_params["frame"].rpartition(".")
    of = session.rows(name)
    path = images.frame_file(session.store, name, of, frame, session.profile(session.character(name)).media)
    if kind == "png":
        return FileResponse(path, headers=FOREVER)
    key = str(of.table.loc[of.table["frame_id"] == frame, "pixel_sha256"].iloc[0])
    return Response(images.small(session.store, path, key), media_type="image/webp", headers=FOREVER)


def _artifact_image(session: Session, request: Request) -> Response:
    name, asset, file = (request.path_params[key] for key in ("name", "asset", "file"))
    session.character(name)
    if asset not in ("lora", "samples", pack.ASSET):
        raise NoImage(f"no images of {asset} are shown")
    path = images.artifact_file(session.store, name, asset, file)
    if "full" in request.query_params:
        return FileResponse(path, headers=EACH_TIME)
    key = session.store.read(name, asset).sha256(file)
    return Response(
        images.small(session.store, path, key), media_type="image/webp", headers={"cache-control": "no-cache"}
    )


def _pack_page(session: Session, request: Request) -> Response:
    """Return the page of the character's pack, or an image of it."""
    name, file = request.path_params["name"], request.path_params["file"]
    session.character(name)
    if file == PAGE:
        headers = {**EACH_TIME, "content-security-policy": pack.PAGE_POLICY}
        return HTMLResponse(pack.page_of(session.store, name), headers=headers)
    return FileResponse(pack.page_image(session.store, name, file), headers=EACH_TIME)


def _with_policy(app: Any) -> Any:
    """Return `app` with POLICY on every answer that states no other."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", [])
                if not any(key == b"content-security-policy" for key, _ in headers):
                    headers = [*headers, (b"content-security-policy", POLICY.encode())]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, with_policy)

    return answer
