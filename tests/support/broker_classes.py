"""`python -m tests.support.broker_classes FILE`: keep the classes of a broker as the JVM wants them, for all.

A broker that starts from them is up in half the time, and tests start dozens.
https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
"""

import sys
import tempfile
from pathlib import Path

from tests.support.broker import Broker


def main(file: Path) -> None:
    """Start and stop a broker that writes its classes to the file as it ends.

    Raises:
        RigError: Java or the jars are missing, or the broker failed.
    """
    file.unlink(missing_ok=True)
    unfinished = file.absolute().with_suffix(".new")
    with tempfile.TemporaryDirectory() as home:
        broker = Broker(Path(home), java_options=[f"-XX:ArchiveClassesAtExit={unfinished}"])
        with broker:
            broker.stop()
    unfinished.replace(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
