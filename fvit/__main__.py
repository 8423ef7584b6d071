"""`python -m fvit` is `fvit`."""

import sys

from fvit.cli import main

sys.exit(main())
