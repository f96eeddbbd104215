"""The ways to generate that an LCM-LoRA is measured by."""

from pathlib import Path

from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.generation import few_steps
from sticker_pipeline.generation.few_steps import Answers
from sticker_pipeline.generation.prompts import requests_of_texts


def test_guidance_is_distilled_in_and_not_drawn_with() -> None:
    lora, lcm, own = Path("lora"), Path("lcm"), Path("own")
    generation = GenerationSettings(steps=25, guidance_scale=5.0)
    ways = few_steps.ways_to_draw(generation, "base", [lora], {"LCM-LoRA": lcm, "its own": own})
    assert {way.settings.guidance_scale for way in ways.values() if way.settings.scheduler == "lcm"} == {1.0}
    assert {way.settings.guidance_scale for way in ways.values() if way.settings.scheduler != "lcm"} == {5.0}
    assert all(way.loras[0] == lora for way in ways.values())
    assert [way.settings.steps for way in ways.values() if way.loras == (lora, own)] == list(few_steps.STEPS)
    assert [way.settings.steps for way in ways.values() if way.loras == (lora, lcm)] == [few_steps.FEW]
    assert ways["base, steps: 25"].calls == 50 and ways["its own, steps: 4"].calls == 4
    assert len(ways) == 4 + len(few_steps.STEPS)  # 25 steps are the profile's own here


def test_answers_are_held_against_the_most_steps_and_summed_up_by_our_few() -> None:
    lcm = {"LCM-LoRA": Path("lcm"), "its own": Path("own")}
    ways = few_steps.ways_to_draw(GenerationSettings(steps=10), "base", [], lcm)
    answers = Answers(Path("folder"), requests_of_texts(["smile", "angry"], 2, purpose="lcm"), 2, ways)
    assert (answers.reference, answers.ours) == ("base, steps: 25", "its own, steps: 4")
    assert answers.files("base, steps: 10") == [f"pictures/1_{place:03d}.png" for place in range(4)]
    assert [request.prompt for request in answers.requests] == ["smile", "smile", "angry", "angry"]
    assert {request.medium for request in answers.requests} == {""}
