"""The command ``make compose-test``: runs compose.yaml's containers in namespaces, without an engine.

It shows that Docker Compose accepts the file and that the Dockerfile builds. It also shows that each container of both
profiles starts, becomes healthy, works, and stops with the user, mounts, variables and checks of compose.yaml. It does
not test an engine, its networks, or the official images of RabbitMQ, PostgreSQL and Python. Debian's packages replace
those.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runner.errors import EXIT_FAILURE, EXIT_OK, EXIT_TERMINATED
from tests.compose.image import base_name, built
from tests.compose.loader import check_reading
from tests.compose.system import say
from tests.matrix.debian import Unavailable
from tests.running import ROOT


def main() -> int:
    """Build the image, test the system, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make compose-test", description=__doc__)
    parser.parse_args()
    # Raise an exception, so that the mounts are removed after a signal too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    started = time.monotonic()
    try:
        check_reading(say)
        with built(say) as image, tempfile.TemporaryDirectory(prefix="fastcommerce-compose-") as folder:
            assert image.check == ("CMD", "python", "-m", "runner", "status"), image.check
            say(f"built in {time.monotonic() - started:.0f} s; user {image.user}, check: {' '.join(image.check[1:])}")
            # The users of the containers reach their volumes through this folder.
            Path(folder).chmod(0o755)
            enter = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--"]
            done = subprocess.run(
                [*enter, sys.executable, "-m", "tests.compose.trial", folder],
                cwd=ROOT,
                input=json.dumps({**dataclasses.asdict(image), "root": str(image.root)}),
                text=True,
                check=False,
            )
    except (AssertionError, Unavailable) as error:
        print(f"compose: {error}", file=sys.stderr)
        return EXIT_FAILURE
    word = "FAILED" if done.returncode else "passed"
    say(f"{word} after {time.monotonic() - started:.0f} s")
    say(f"not tested here: an engine, its networks, and the images {base_name()}, rabbitmq and postgres")
    return EXIT_FAILURE if done.returncode else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
