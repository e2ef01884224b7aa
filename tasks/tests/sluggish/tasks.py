"""Says that it is being loaded, by making the file ``SLUGGISH``, and goes on loading for a minute."""

from __future__ import annotations

import os
import time
from pathlib import Path

Path(os.environ["SLUGGISH"]).touch()
time.sleep(60)
