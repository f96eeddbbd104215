"""The verifier: for each rule, a file that breaks it and no other; right files have no fault."""

import io
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sticker_pipeline.packing.facts import facts
from sticker_pipeline.packing.platforms import Rules, platform_kind, platform_kinds
from sticker_pipeline.packing.verify import Fault, verify
from sticker_pipeline_tests.media import makers
from sticker_pipeline_tests.media.fuzz import MAKERS, damaged, seeds
from sticker_pipeline_tests.media.makers import ApngImage, noise, video
from sticker_pipeline_tests.media.test_fuzz import DAMAGES, steady
from sticker_pipeline_tests.packing.files import (
    apng,
    chunk,
    gif,
    image,
    padded_png,
    padded_webp,
    png,
    webm,
    webp,
)

TEN = [(1, 10)] * 10  # a second
DPI_71 = chunk(b"pHYs", struct.pack(">IIB", 2795, 2795, 1))
DPI_72 = chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1))
PALETTE = chunk(b"PLTE", bytes(range(60))) + chunk(b"tRNS", bytes(20))


def faults(data, platform, kind):
    return [fault.rule for fault in verify(data, platform_kind(platform, kind))]


# (platform, kind): files that have no fault, at the limits where that is cheap
RIGHT = {
    ("telegram", "static"): [webp(512, 512), png(512, 100), png(1, 512), padded_png(png(512, 512), 524_288)],
    ("telegram", "video"): [
        webm(),
        webm(512, 1),
        webm(starts=(0, 33, 67, 100, 133)),  # 30 frames a second, rounded
        webm(starts=tuple(range(0, 2967, 100)), duration=3000),
    ],
    ("telegram", "emoji"): [webp(100, 100), png(100, 100), webm(100, 100)],
    ("whatsapp", "static"): [webp(512, 512), padded_webp(webp(512, 512), 102_400)],
    ("whatsapp", "animated"): [webp(512, 512, [8, 8]), webp(512, 512, [5000, 5000])],
    ("whatsapp", "tray"): [png(96, 96), webp(96, 96)],
    ("line", "static"): [png(370, 320), png(2, 2), png(370, 320, extra=DPI_72), png(370, 320, 3, PALETTE)],
    ("line", "animated"): [
        apng(320, 270, TEN, loops=4), apng(270, 31, [(1, 5)] * 5, 1), apng(320, 1, [(1, 20)] * 20, 1)
    ],
    ("line", "main"): [png(240, 240)],
    ("line", "animated_main"): [apng(240, 240, TEN, loops=1)],
    ("line", "tab"): [png(96, 74)],
    ("discord", "sticker"): [png(320, 320), apng(320, 320, TEN * 5), gif(320, 320, [100, 200])],
    ("discord", "emoji"): [png(128, 128), webp(128, 128), gif(128, 128, [100, 200]), webp(128, 128, [50, 50])],
    ("signal", "static"): [png(512, 512), webp(512, 512)],
    ("signal", "animated"): [apng(10, 10, TEN * 3), apng(512, 512, [(1, 10)] * 2)],
    ("imessage", "sticker"): [
        png(618, 618), png(408, 408), png(300, 300), apng(300, 300, TEN), gif(300, 300, [90, 90])
    ],
    ("slack", "emoji"): [png(128, 128), gif(128, 128, [100, 200])],
    ("matrix", "sticker"): [png(512, 512), webp(600, 512), gif(512, 512, [90, 90]), apng(512, 512, TEN)],
    ("matrix", "emoticon"): [png(128, 128), webp(128, 512, [90, 90])],
    ("mastodon", "emoji"): [png(1, 1), webp(300, 20), gif(50, 50, [90, 90])],
    ("misskey", "emoji"): [png(128, 128), webp(128, 128, [90, 90]), apng(30, 30, TEN), gif(50, 50, [90, 90])],
    ("kakao", "static"): [png(360, 360)],
    ("kakao", "animated"): [png(360, 360), gif(360, 360, [40] * 24)],
}  # fmt: skip

# rule: files that break it, and no other
WRONG = {
    "format": [
        ("telegram", "static", gif(512, 512)),
        ("whatsapp", "static", png(512, 512)),
        ("line", "static", webp(370, 320)),
        ("discord", "sticker", webp(320, 320)),
        ("discord", "sticker", apng(320, 320, [(1, 10)])),  # one frame, yet not a plain PNG
        ("slack", "emoji", b"GIF"),
        ("telegram", "video", b""),
        ("telegram", "video", b"<svg/>"),
        ("telegram", "video", webm(doc_type=b"matroska")),
        ("telegram", "video", gif(512, 512, [100, 100])),
    ],
    "motion": [
        ("telegram", "static", webp(512, 512, [90, 90])),
        ("whatsapp", "static", webp(512, 512, [90, 90])),
        ("whatsapp", "animated", webp(512, 512)),
        ("line", "static", apng(370, 320, TEN)),
        ("line", "animated", png(320, 270)),
        ("signal", "animated", apng(512, 512, [(1, 10)])),
        ("slack", "emoji", apng(128, 128, TEN)),
    ],
    "damaged": [
        ("telegram", "static", webp(512, 512)[:-2]),
        ("line", "static", png(370, 320)[:-30]),
        ("line", "static", png(370, 320).replace(b"IDAT", b"iDAT")),
        ("line", "animated", apng(320, 270, TEN)[:-200]),
        ("discord", "emoji", gif(128, 128, [90, 90])[:-3]),
        ("telegram", "video", webm()[:-1]),
        ("telegram", "video", webm(starts=())),
    ],
    "max_bytes": [
        ("telegram", "static", padded_png(png(512, 512), 524_289)),
        ("telegram", "video", webm(frame=b"\x82" + bytes(32_000))),
        ("whatsapp", "static", padded_webp(webp(512, 512), 102_402)),
        ("whatsapp", "animated", padded_webp(webp(512, 512, [90, 90]), 512_002)),
        ("whatsapp", "tray", padded_png(png(96, 96), 51_201)),
        ("line", "static", padded_png(png(370, 320), 1_000_001)),
        ("line", "animated", padded_png(apng(320, 270, TEN, 1), 300_001)),
        ("discord", "sticker", padded_png(png(320, 320), 512_001)),
        ("signal", "static", padded_png(png(512, 512), 307_201)),
        ("imessage", "sticker", padded_png(png(300, 300), 500_000)),
        ("slack", "emoji", padded_png(png(128, 128), 128_000)),
        ("mastodon", "emoji", padded_png(png(128, 128), 262_145)),
        ("kakao", "static", padded_png(png(360, 360), 150_001)),
    ],
    "max_animation_bytes": [("telegram", "emoji", webm(100, 100, frame=b"\x82" + bytes(32_000)))],
    "canvas": [
        ("telegram", "static", png(511, 511)),
        ("telegram", "static", png(512, 513)),
        ("telegram", "video", webm(100, 100)),
        ("telegram", "emoji", png(100, 101)),
        ("whatsapp", "static", webp(512, 511)),
        ("line", "static", png(372, 320)),
        ("line", "static", png(320, 370)),
        ("line", "main", png(240, 238)),
        ("line", "tab", png(74, 96)),
        ("discord", "sticker", png(319, 320)),
        ("signal", "animated", apng(513, 513, TEN)),
        ("imessage", "sticker", png(618, 408)),
        ("matrix", "sticker", png(512, 511)),
    ],
    "canvas.even": [("line", "static", png(369, 320)), ("line", "static", png(370, 1))],
    "canvas.square": [("signal", "animated", apng(512, 511, TEN))],
    "canvas.min_side": [("signal", "animated", apng(9, 9, TEN))],
    "canvas.one_side_min": [("line", "animated", apng(269, 269, TEN, 1))],
    "alpha": [
        ("whatsapp", "static", webp(512, 512, alpha=False)),
        ("whatsapp", "animated", webp(512, 512, [90, 90], alpha=False)),
        ("line", "static", png(370, 320, 2)),
        ("line", "static", png(370, 320, 3, chunk(b"PLTE", bytes(60)))),
        ("telegram", "video", webm(alpha=False)),
        ("telegram", "video", webm(alpha_frames=False)),  # declared, and no frame has it
    ],
    "rgb": [("line", "static", png(370, 320, 4)), ("line", "static", png(370, 320, 0, chunk(b"tRNS", b"\0\0")))],
    "min_dpi": [("line", "static", png(370, 320, extra=DPI_71)), ("line", "tab", png(96, 74, extra=DPI_71))],
    "max_ms": [
        ("telegram", "video", webm(starts=tuple(range(0, 3001, 100)))),
        ("telegram", "video", webm(starts=(0, 1000), duration=3001)),
        ("whatsapp", "animated", webp(512, 512, [5000, 5001])),
        ("line", "animated", apng(320, 270, TEN[:5] * 4, 3)),  # 3 times 2 seconds
        ("line", "animated", apng(320, 270, [(1, 1)] * 5, 1)),
        ("discord", "sticker", apng(320, 320, [*TEN * 5, (1, 100)])),
        ("signal", "animated", apng(512, 512, [(1, 1), (2, 1), (1, 1000)])),
    ],
    "min_frame_ms": [("whatsapp", "animated", webp(512, 512, [7, 100]))],
    "max_fps": [
        ("telegram", "video", webm(starts=tuple(range(0, 320, 32)))),
        ("telegram", "emoji", webm(100, 100, (0, 20))),
    ],
    "frames": [
        ("line", "animated", apng(320, 270, [(1, 4)] * 4, 1)),
        ("line", "animated", apng(320, 270, [(1, 21)] * 21, 1)),
        ("kakao", "animated", gif(360, 360, [40] * 25)),
    ],
    "max_loops": [
        ("line", "animated", apng(320, 270, TEN, 0)),
        ("line", "animated_main", apng(240, 240, [(1, 25)] * 5, 5)),  # 5 times 0.2 s: only their number is wrong
    ],
    "endless": [("signal", "animated", apng(512, 512, TEN, 1))],
    "whole_seconds": [
        ("line", "animated", apng(320, 270, [(1, 10)] * 9, 1)),
        ("line", "animated", apng(320, 270, [(83, 1000)] * 12, 1)),  # rounded twelfths of a second: 996 ms
        ("line", "animated", apng(320, 270, [(0, 1)] * 9, 1)),
    ],
    "distinct_frames": [("line", "animated", apng(320, 270, TEN, 1, equal=True))],
    "codec": [("telegram", "video", webm(codec=b"V_VP8"))],
    "audio": [("telegram", "video", webm(audio=True))],
}  # fmt: skip


@pytest.mark.parametrize("name", platform_kinds())
def test_right_files_have_no_fault(name):
    for data in RIGHT[name]:
        assert verify(data, platform_kinds()[name]) == []


@pytest.mark.parametrize("rule", WRONG)
def test_wrong_file_breaks_one_rule_and_no_other(rule):
    for platform, kind, data in WRONG[rule]:
        assert faults(data, platform, kind) == [rule], (platform, kind)


def test_each_rule_of_a_file_has_a_wrong_file():
    of_sets = {"count", "mixed", "animations_in_set", "max_zip_bytes", "emoji", "keywords", "texts", "policy"}
    advice_or_formats = {"advised_margin", "stills", "animations"}
    assert set(Rules.model_fields) - of_sets - advice_or_formats <= set(WRONG)


@pytest.mark.parametrize("name", platform_kinds())
def test_stated_limits_are_checked(name):
    """Each kind with a rule of a file is among the wrong files of that rule, or shares it with another kind."""
    rules = platform_kinds()[name].rules
    stated = {key for key in Rules.model_fields if key in WRONG and getattr(rules, key) is not None}
    assert stated <= set(WRONG)
    assert "canvas" in stated


def test_fault_names_rule_value_limit_and_source():
    (fault,) = verify(png(512, 513), platform_kind("telegram", "static"))
    assert isinstance(fault, Fault)
    assert (fault.rule, fault.value) == ("canvas", "512×513 px")
    assert fault.limit == "512 px on one side, and not more on the other"
    assert "https://core.telegram.org/stickers (official, read on " in str(fault)


def test_several_faults_are_all_named():
    assert faults(png(371, 321, 0), "line", "static") == ["canvas", "alpha", "rgb"]


def test_times_are_exact():
    found = facts(apng(4, 4, [(1, 3)] * 3, 2))
    assert (found.total_ms, found.loops, found.frames) == (1000, 2, 3)
    assert facts(webp(4, 4, [40, 1234], loops=3)).delays_ms == (40, 1234)
    assert facts(webp(4, 4, [40, 1234], loops=3)).loops == 3
    assert facts(gif(8, 8, [40, 120])).delays_ms == (40, 120)
    assert facts(gif(8, 8, [40, 120])).loops == 0
    assert facts(webm(starts=(0, 40, 90), duration=130)).delays_ms == (40, 50, 40)


def test_default_image_outside_the_animation_is_no_frame():
    images = [ApngImage(noise(1, 16, 16, seed)[0]) for seed in (1, 2)]
    assert facts(makers.apng(16, 16, images)).frames == 2
    assert facts(makers.apng(16, 16, images, default=noise(1, 16, 16, 3)[0])).frames == 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_facts_of_pillows_png_files_agree_with_pillow(mode):
    buffer = io.BytesIO()
    Image.new("RGBA", (7, 5), (1, 2, 3, 4)).convert(mode.replace("I;16", "L")).convert(mode).save(
        buffer, "PNG", dpi=(96, 96)
    )
    found = facts(buffer.getvalue())
    assert (found.format, found.width, found.height, round(found.dpi)) == ("PNG", 7, 5, 96)
    with Image.open(io.BytesIO(buffer.getvalue())) as opened:
        assert found.alpha == opened.has_transparency_data
    assert found.rgb == (mode in ("P", "RGB", "RGBA"))


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 60}, {"lossless": True, "exact": True}])
@pytest.mark.parametrize("alpha", [True, False])
def test_facts_of_pillows_webp_files_agree_with_pillow(options, alpha):
    buffer = io.BytesIO()
    image(31, 17, alpha=alpha).save(buffer, "WEBP", **options)
    found = facts(buffer.getvalue())
    with Image.open(io.BytesIO(buffer.getvalue())) as opened:
        assert (found.width, found.height, found.alpha) == (*opened.size, opened.mode == "RGBA")
    assert (found.format, found.frames) == ("WEBP", 1)


def test_webm_of_ffmpeg_is_read_as_it_was_written():
    frames = noise(6, 64, 32)
    frames[..., 3] = 100
    data = video("webm", frames, "-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0", rate=20)
    found = facts(data)
    assert (found.format, found.width, found.height, found.frames) == ("WEBM", 64, 32, 6)
    assert (found.delays_ms, found.total_ms) == ((50,) * 6, 300)
    assert (found.alpha, found.audio, found.codec) == (True, False, "V_VP9")
    opaque = facts(video("webm", frames, "-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", rate=20))
    assert not opaque.alpha


def test_webm_of_a_stream_is_read():
    """A live stream has segments and clusters of unknown size, and no duration."""
    data = video("webm", noise(4, 64, 32), "-c:v", "libvpx", "-pix_fmt", "yuv420p", "-live", "1", rate=10)
    assert b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" in data
    found = facts(data)
    assert (found.codec, found.frames, found.total_ms) == ("V_VP8", 4, 400)


def test_webm_with_sound_is_found():
    sound = ("-f", "lavfi", "-i", "anullsrc=r=48000:cl=mono", "-shortest", "-c:a", "libopus")
    data = video("webm", noise(4, 64, 32), *sound, "-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", rate=10)
    assert facts(data).audio
    assert "audio" in faults(data, "telegram", "video")


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_cut_off_files_give_faults(data):
    whole = data.draw(st.sampled_from([one for files in RIGHT.values() for one in files if len(one) < 20_000]))
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    for name in (("line", "animated"), ("telegram", "video"), ("whatsapp", "animated")):
        assert verify(cut, platform_kinds()[name])


@steady(80)
@given(
    name=st.sampled_from([name for name in MAKERS if not name.startswith("MP4")]),
    damages=DAMAGES,
    repair=st.booleans(),
)
def test_damaged_files_never_raise(name, damages, repair):
    data = damaged(seeds()[name], damages, b"\x00" * 64, repair=repair)
    for kind in (("line", "animated"), ("telegram", "video")):
        assert all(isinstance(fault, Fault) for fault in verify(data, platform_kinds()[kind]))


@steady(100)
@given(damages=DAMAGES)
def test_damaged_webm_never_raises(damages):
    data = damaged(webm(), damages, webm(audio=True), repair=False)
    assert all(isinstance(fault, Fault) for fault in verify(data, platform_kind("telegram", "video")))


@steady(200)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\x1aE\xdf\xa3", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBP"]),
)
def test_any_bytes_never_raise(rest, beginning):
    assert verify(beginning + rest, platform_kind("line", "static"))


def test_awkward_files_give_faults(realdata):
    entries = json.loads((realdata / "hostile/manifest.json").read_text(encoding="utf-8"))["files"]
    paths = [path for path in (realdata / "hostile/files").rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(paths) > len(entries) // 2
    for path in paths:
        if path.stat().st_size < 5_000_000:
            for kind in (("signal", "animated"), ("telegram", "video")):
                assert verify(path.read_bytes(), platform_kinds()[kind]), path.name


def test_real_gifs_are_read_as_pillow_reads_them(realdata):
    paths = sorted((realdata / "anki_tan").rglob("*.gif"))[:12]
    assert paths
    for path in paths:
        found = facts(path.read_bytes())
        with Image.open(path) as opened:
            assert (found.width, found.height, found.frames) == (*opened.size, opened.n_frames)


def test_webp_whose_frames_leave_the_canvas_free_has_alpha():
    """Its encoder cuts frames to what they show, and declares no transparency."""
    data = webp(64, 64, [90, 90])
    assert not data[20] & 0x10
    assert facts(data).alpha
    assert not facts(webp(64, 64, [90, 90], alpha=False)).alpha
