"""Evidence of a cut-out, as a row of candidates has it."""

import numpy as np

from sticker_pipeline.packing.animation import Animation
from sticker_pipeline.packing.candidates import CutEvidence
from sticker_pipeline.packing.cut_out import VISIBLE, CutOutError, background_of, cut_out

MOST_TOUCHED = 0.1  # of a side that the subject may cover; at the bottom, a bust covers more


def cut_evidence(animation: Animation) -> CutEvidence:
    """Return the evidence of cutting the subject out.

    It raises no error without a flat background.
    """
    try:
        found = cut_out(animation)
    except CutOutError:
        return CutEvidence(background_of(animation).flat_share, 0, False, False)
    flat = found.background.flat_share if found.background else 1.0
    return CutEvidence(flat, found.specks, is_cut_off(found.animation), True)


def is_cut_off(animation: Animation) -> bool:
    """Tell whether the subject covers much of a side of the canvas.

    The sides are the left, right and upper one.
    """
    shown = animation.frames[..., 3] >= VISIBLE
    touched = [shown[:, :, 0], shown[:, :, -1], shown[:, 0, :]]
    return bool(max(float(np.mean(side, axis=1).max()) for side in touched) > MOST_TOUCHED)
