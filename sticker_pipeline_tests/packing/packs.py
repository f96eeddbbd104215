"""Packs for tests: stickers of each platform, and folders written of them."""

from sticker_pipeline.packing.bundle import PackFile, write_bundle
from sticker_pipeline.packing.pack_texts import PackTexts
from sticker_pipeline_tests.packing.files import apng, gif, png, webm, webp

TEN = [(1, 10)] * 10
TEXTS = PackTexts(name="nyx", title="Nyx", author="Ada", description="Nyx, a cat", copyright="© Ada")
STILL = {
    "telegram": ("static", webp(512, 512)),
    "whatsapp": ("static", webp(512, 512)),
    "line": ("static", png(370, 320)),
    "discord": ("sticker", png(320, 320)),
    "signal": ("static", webp(512, 512)),
    "imessage": ("sticker", png(618, 618)),
    "slack": ("emoji", png(128, 128)),
    "matrix": ("sticker", webp(512, 512)),
    "mastodon": ("emoji", png(128, 128)),
    "misskey": ("emoji", webp(128, 128)),
    "kakao": ("static", png(360, 360)),
}
MOVING = {
    "telegram": ("video", webm()),
    "whatsapp": ("animated", webp(512, 512, [90, 90])),
    "line": ("animated", apng(320, 270, TEN, 1)),
    "discord": ("sticker", apng(320, 320, TEN)),
    "signal": ("animated", apng(512, 512, TEN)),
    "imessage": ("sticker", gif(618, 618, [90, 90])),
    "slack": ("emoji", gif(128, 128, [90, 90])),
    "matrix": ("sticker", webp(512, 512, [90, 90])),
    "mastodon": ("emoji", gif(128, 128, [90, 90])),
    "misskey": ("emoji", apng(128, 128, TEN)),
}
PARTS = {"tray": png(96, 96), "main": png(240, 240), "animated_main": apng(240, 240, TEN, 1), "tab": png(96, 74)}
ARCHIVES = {
    "whatsapp": "{}.wastickers",
    "line": "{}.zip",
    "mastodon": "emoji.tar.gz",
    "misskey": "emoji.zip",
}


def stickers(platform, stills=8, animations=8, generated=False):
    made = [(f"wave {number}", *STILL[platform], False) for number in range(stills)]
    made += [(f"dance {number}", *MOVING[platform], True) for number in range(animations) if platform in MOVING]
    return [
        PackFile(slot, data, kind, ("👋", "😀", "❤️", "🎉"), ("hello", "wave"), "Waves", animated, generated)
        for slot, kind, data, animated in made
    ]


def written(tmp_path, platform, generated=True, **count):
    generated = generated and platform != "kakao"
    count = {"stills": 32, "animations": 0} if platform == "kakao" else count
    return write_bundle(tmp_path / platform, platform, TEXTS, stickers(platform, generated=generated, **count), PARTS)
