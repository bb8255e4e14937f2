"""The tests. Thousands of processes import these modules and the product's, so Python must keep the compiled code."""

import os
import sys

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
