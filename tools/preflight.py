"""Say what the machine lacks for `make env`, before anything is downloaded. Standard library only; any Python from 3.8 starts it."""

import argparse
import os
import shutil
import sys


def faults(disk_mib, make_version):
    """Sentences, one for each thing that is missing, with what to do."""
    said = []
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        said.append(
            f"Python {sys.version.split()[0]} at {sys.executable}: 3.11 to 3.13 is needed; install it and run make with PYTHON=python3.12"
        )
    try:
        import ensurepip
        import venv

        del ensurepip, venv
    except ImportError:
        said.append("the module venv is missing: on Debian and Ubuntu `apt-get install python3-venv`")
    if int((make_version or "0").split(".")[0]) < 4:
        said.append(f"GNU make {make_version}: 4.0 or later is needed (on macOS `brew install make`, then gmake)")
    free_mib = shutil.disk_usage(os.getcwd()).free // 2**20
    if free_mib < disk_mib and not os.path.exists(".venv/.runtime"):
        said.append(f"{free_mib} MiB free here, about {disk_mib} MiB are needed while installing")
    return said


def main():
    """Exit 2 with the list of what is missing, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--disk-mib", type=int, required=True)
    parser.add_argument("--make-version", default="")
    arguments = parser.parse_args()
    said = faults(arguments.disk_mib, arguments.make_version)
    for sentence in said:
        print("make env: " + sentence, file=sys.stderr)
    return 2 if said else 0


if __name__ == "__main__":
    sys.exit(main())
