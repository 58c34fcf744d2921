# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files of the host: its directory, reading, and replacing in one step."""

import json
import os

ROOT = os.path.abspath(os.environ.get("FLEET_HOST_ROOT") or "/nonexistent")


def write_json(path, data):
    temporary = "%s.%d" % (path, os.getpid())
    with open(temporary, "w") as stream:
        json.dump(data, stream)
    os.rename(temporary, path)


def read_json(path):
    try:
        with open(path) as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def write_text(path, text):
    """Replace a small file at once."""
    temporary = "%s.%d" % (path, os.getpid())
    with open(temporary, "w") as stream:
        stream.write(text)
    os.rename(temporary, path)


def read_text(path):
    try:
        with open(path) as stream:
            return stream.read()
    except OSError:
        return ""


def remove(path):
    """A file, or a directory with all that is in it, if it is there."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            for name in os.listdir(path):
                remove(path + "/" + name)
            os.rmdir(path)
        else:
            os.unlink(path)
    except OSError:
        pass
