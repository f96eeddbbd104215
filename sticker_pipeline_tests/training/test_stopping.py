import os
import signal

import pytest

from sticker_pipeline.training.stopping import Interrupted, stop_requests


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_becomes_a_request(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with stop_requests() as stop:
        assert stop() is None
        os.kill(os.getpid(), number)
        asked = stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked == stop() == number
    assert signal.getsignal(number) == before
    assert Interrupted(number, "saved").exit_code == code
