"""Hypothesis strategies for workflows."""

from hypothesis import strategies as st

from sticker_pipeline.publishing.comfyui import _UNWRITABLE, MAX_SEED, Lora, Workflow
from sticker_pipeline.publishing.samplers import SAMPLERS, SCHEDULES
from sticker_pipeline.tagging.captions import escaped_prompt

PROMPTS = st.one_of(
    st.sampled_from(
        ["", "trig, smile", "miku_(vocaloid), :3, \\m/", "{a|b}, |_|, >:(", "日本, [x]", "\\(", "back\\ x"]
    ),
    st.text("abé ,:|_()[]{}<>\\/*日", max_size=30).filter(lambda text: not _UNWRITABLE.search(escaped_prompt(text))),
)
FILES = st.from_regex(r"[\w][\w .()+-]{0,12}(/[\w-]{1,8})?\.safetensors", fullmatch=True).filter(
    lambda name: not any(ord(letter) < 32 for letter in name)
)
STRENGTHS = st.floats(-2, 2).map(lambda value: round(value, 2))
HASHES = st.one_of(st.none(), st.text("0123456789abcdef", min_size=64, max_size=64))


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    family = draw(st.sampled_from(["sd15", "sdxl"]))
    sides = st.integers(2, 2048).map(lambda number: 8 * number)
    return Workflow(
        checkpoint=draw(FILES),
        loras=tuple(draw(st.lists(st.builds(Lora, FILES, STRENGTHS, HASHES), min_size=1, max_size=4))),
        trigger=draw(st.sampled_from(["trig", "zzq_moth"])),
        positive=draw(PROMPTS),
        negative=draw(PROMPTS),
        seed=draw(st.integers(0, MAX_SEED)),
        steps=draw(st.integers(1, 10_000)),
        cfg=draw(st.floats(0, 100).map(lambda value: round(value, 2))),
        sampler=draw(st.sampled_from(sorted(SAMPLERS.values()))),
        scheduler=draw(st.sampled_from(sorted(SCHEDULES.values()))),
        width=draw(sides),
        height=draw(sides),
        family=family,  # type: ignore[arg-type]
        batch=draw(st.integers(1, 4_096)),
        v_prediction=draw(st.booleans()),
        zero_snr=draw(st.booleans()),
        clip_skip=draw(st.integers(1, 12)) if family == "sd15" else 1,
        prefix=draw(st.sampled_from(["sticker", "moth/moth", "a-b_c.1"])),
    )
