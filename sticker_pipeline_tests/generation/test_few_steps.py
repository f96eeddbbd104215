"""Configurations in which an LCM-LoRA is measured."""

from pathlib import Path

from sticker_pipeline.core.settings import GenerationSettings
from sticker_pipeline.generation import few_steps
from sticker_pipeline.generation.few_steps import StepComparison
from sticker_pipeline.generation.prompts import requests_of_texts


def test_guidance_is_distilled_in_and_not_drawn_with() -> None:
    lora, lcm, own = Path("lora"), Path("lcm"), Path("own")
    generation = GenerationSettings(steps=25, guidance_scale=5.0)
    configs = few_steps.compared_configs(generation, "base", [lora], {"LCM-LoRA": lcm, "its own": own})
    assert {config.settings.guidance_scale for config in configs if config.settings.scheduler == "lcm"} == {1.0}
    assert {config.settings.guidance_scale for config in configs if config.settings.scheduler != "lcm"} == {5.0}
    assert all(config.loras[0] == (lora, 1.0) for config in configs)
    assert [config.settings.steps for config in configs if config.loras == [(lora, 1.0), (own, 1.0)]] == list(
        few_steps.STEPS
    )
    assert [config.settings.steps for config in configs if config.loras == [(lora, 1.0), (lcm, 1.0)]] == [few_steps.FEW]
    calls = {config.name: config.calls for config in configs}
    assert calls["base, steps: 25"] == 50 and calls["its own, steps: 4"] == 4
    assert len(configs) == 4 + len(few_steps.STEPS)  # 25 steps are the profile's own here


def test_the_reference_has_the_most_steps_and_the_summary_our_few() -> None:
    lcm = {"LCM-LoRA": Path("lcm"), "its own": Path("own")}
    configs = few_steps.compared_configs(GenerationSettings(steps=10), "base", [], lcm)
    compared = StepComparison(Path("folder"), requests_of_texts(["smile", "angry"], 2, purpose="lcm"), 2, configs)
    assert (compared.reference.name, compared.summarised.name) == ("base, steps: 25", "its own, steps: 4")
    assert compared.files(configs[1]) == [f"pictures/1_{place:03d}.png" for place in range(4)]
    assert [request.prompt for request in compared.requests] == ["smile", "smile", "angry", "angry"]
    assert {request.medium for request in compared.requests} == {""}
