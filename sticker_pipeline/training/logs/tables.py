"""Tables of a training, without PyTorch, for the definitions."""

from sticker_pipeline.core.schemas import Column, TableSchema

BANDS = ((0, 250), (250, 500), (500, 750), (750, 1000))
"""Bands of timesteps: low ones train details, high ones shapes and colours."""
BAND_COLUMNS = [f"loss_{low}_{high}" for low, high in BANDS]

LOG = TableSchema(
    "each step of the optimizer",
    (
        Column("step", "int64", "number of the step, from 1", low=1),
        Column("epoch", "int64", "number of the epoch, from 1", low=1),
        Column("loss", "float64", "the minimised loss, with all weights of the objective"),
        *(
            Column(
                f"loss_{low}_{high}",
                "float64",
                f"mean squared error at timesteps {low} to {high - 1}, without loss weights except those of pixels "
                "(background_weight below 1); no number where the step had none",
                nullable=True,
            )
            for low, high in BANDS
        ),
        Column("lr_unet", "float64", "learning rate of the U-Net's adapters"),
        Column("lr_text_encoder", "float64", "learning rate of the text encoders' adapters; 0 where none are trained"),
        Column(
            "grad_norm",
            "float64",
            "norm of the gradient before it is clipped; no number or infinite where a loss scaler skipped the step",
            nullable=True,
        ),
        Column("weights_scaled", "int64", "modules that max_weight_norm scaled down", low=0),
        Column(
            "weight_norm",
            "float64",
            "mean norm of the modules' weights; no number without max_weight_norm",
            nullable=True,
        ),
        Column("samples_per_s", "float64", "images per second, of all processes"),
        Column("seconds", "float64", "seconds that the step took"),
        Column("memory_bytes", "int64", "peak bytes reserved on the GPU, or resident bytes of a CPU process", low=0),
    ),
    key=("step",),
    file="log.parquet",
)
VALIDATION_LOSS = TableSchema(
    "each split before the first step and after each epoch",
    (
        Column("epoch", "int64", "whole epochs until then; 0 before the first step", low=0),
        Column("step", "int64", "steps until then", low=0),
        Column(
            "split",
            "str",
            "split of the images: trained on, validation (by which the epoch is chosen), or held-out references",
            values=("train", "validation", "holdout"),
        ),
        Column("images", "int64", "number of images", low=1),
        Column(
            "loss",
            "float64",
            "mean squared error on fixed images, noise and timesteps, each band counted alike",
            nullable=True,
        ),
        *(
            Column(f"loss_{low}_{high}", "float64", f"the same at timestep {(low + high) // 2} alone", nullable=True)
            for low, high in BANDS
        ),
    ),
    key=("epoch", "split"),
    file="validation_loss.parquet",
)
