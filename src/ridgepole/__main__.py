"""`python -m ridgepole`."""

from __future__ import annotations

import sys

from ridgepole.cli import main

sys.exit(main())
