"""What Great Expectations imports but we do not use is not run, and is there for whoever does."""

import subprocess
import sys

from include.settings import ROOT

SCRIPT = """
import inspect, sys
from include.quality.gx_import import great_expectations
great_expectations()
inspect.stack()
assert "scipy.stats" in sys.modules and "altair" in sys.modules, "no longer imported: take it out of _LAZY"
assert "scipy.stats._stats_py" not in sys.modules, "scipy.stats was run"
assert "altair.vegalite" not in sys.modules, "altair was run"
assert not hasattr(sys.modules["scipy.stats"], "__wrapped__") and "scipy.stats._stats_py" not in sys.modules
import scipy.stats
print(scipy.stats.norm.cdf(0))
from scipy.stats import distributions
print(type(scipy.stats).__name__)
"""


def test_unused_modules_run_only_when_a_name_is_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0.5", "module"]
