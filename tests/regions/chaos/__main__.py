"""Its command."""

from __future__ import annotations

import sys

from tests.regions.chaos.run import main

sys.exit(main())
