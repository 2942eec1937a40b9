from __future__ import annotations

import threading

from unionfs.linux.capabilities import CAP_CHOWN, CAP_FOWNER, has_capability
from unionfs.linux.capset import renounce


def test_renounced_capability_is_gone_in_this_thread_and_those_that_it_starts() -> None:
    seen: list[bool] = []

    def renounce_it() -> None:
        seen.extend(has_capability(number) for number in (CAP_CHOWN, CAP_FOWNER))
        renounce(CAP_CHOWN)
        seen.extend(has_capability(number) for number in (CAP_CHOWN, CAP_FOWNER))
        started = threading.Thread(target=lambda: seen.append(has_capability(CAP_CHOWN)))
        started.start()
        started.join()

    thread = threading.Thread(target=renounce_it)
    thread.start()
    thread.join()
    assert seen == [True, True, False, True, False]
    assert has_capability(CAP_CHOWN)
