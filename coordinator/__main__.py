"""``python -m coordinator``: settings come from ``REXIS_…`` variables."""

import sys

from coordinator.main import main

sys.exit(main())
