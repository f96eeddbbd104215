from PIL import Image

from sticker_pipeline.generation.grid import sample_grid


def test_models_stand_in_rows_over_the_same_columns() -> None:
    red, blue = Image.new("RGB", (96, 96), "red"), Image.new("RGB", (96, 96), "blue")
    grid = sample_grid(
        {"base": [red] * 3, "lora": [blue] * 3, "references": [red]}, ["smile", "angry", "waving"], most=2
    )
    assert grid.size == (84 + 2 * 100, 16 + 3 * 100)
    centres = [
        [grid.getpixel((84 + column * 100 + 50, 16 + row * 100 + 50)) for column in range(2)] for row in range(3)
    ]
    assert centres == [[(255, 0, 0)] * 2, [(0, 0, 255)] * 2, [(255, 0, 0), (255, 255, 255)]]
