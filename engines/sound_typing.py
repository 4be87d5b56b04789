"""Is this really a fan? The seam at which a judge of that question plugs into the quality gate.

There is none yet: no model at hand tells a fan from a pump well enough to speak up in front of a plant. What is fixed
here is what such a judge is asked and what it may answer. The gate asks it once a clip (`tasks.signals`, handed in
through `tasks.quality.judge(sound_typing=…)`), reports its answer as the rule `clip.other_sound`, and without one
says nothing of the matter: no clip is called a fan because nobody looked.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class SoundTyping(Protocol):
    """Says when a recording does not sound like the machine that it is said to be."""

    def other_type(self, waveform: NDArray[np.float32], sample_rate: int, machine_type: str) -> str | None:
        """The machine type that the recording sounds like, where that is surely not `machine_type`; else None.

        waveform: float32 (n,), the clip in standard form, of a long one its first minute; sample_rate in Hz. Called
        from several threads at once, in no fixed order: an answer must not depend on the clips asked about before.
        """
        ...
