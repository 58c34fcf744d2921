# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which file is Falco's program, and whether it may be run. Stdlib only, Python 3.6+.

The program is that of the running process: /proc/PID/exe, or the script that this interpreter reads. Only
where nothing runs is it looked for in ExecStart. It is run only if

- its name begins with falco,
- it is an ELF file, or a script whose interpreter is not a shell (a shell's script starts other programs:
  with any argument, --version included, it may stop the Falco that runs), and
- the file, a script's interpreter, and each directory and link on the way to them belong to root or to the
  user of this process, and nobody else may write to them.
"""

import errno
import os
import re
import stat

from ansible_collections.falcotune.fleet.plugins.module_utils._host import host

ELF = b"\x7fELF"
NAME = re.compile(r"^falco(?!ctl|sidekick|-driver)")
SHELLS = ("sh", "ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "mksh", "tcsh", "zsh")
RUNTIMES = ("docker", "podman", "nerdctl", "ctr", "crictl", "conmon", "containerd", "runc", "crun")
# Programs that become the one that follows in their arguments, or start it.
WRAPPERS = SHELLS + (
    "chrt",
    "env",
    "ionice",
    "nice",
    "nohup",
    "numactl",
    "setpriv",
    "setsid",
    "stdbuf",
    "sudo",
    "systemd-cat",
    "taskset",
    "timeout",
)
MAX_LINKS = 40
CONTAINER = (
    "%s starts Falco in a container, which this collection does not tune: tune it where it is deployed"
)


def is_falco(path):
    return bool(NAME.match(os.path.basename(path)))


def interpreter(path):
    """The words after #! of a script, or None. OSError where it can't be read."""
    with host.regular(path) as stream:
        head = stream.read(256)
    if not head.startswith(b"#!"):
        return None
    return head[2:].split(b"\n")[0].decode("utf-8", "replace").split()


def _runs_shell(words):
    names = [os.path.basename(word) for word in words]
    # env may have options and variables before the interpreter.
    return not names or any(name in SHELLS for name in (names if names[0] == "env" else names[:1]))


def _mode(path, what):
    """Why others could put something else there, or None."""
    found = os.lstat(path)
    if found.st_uid not in (0, os.geteuid()):
        return "%s belongs to uid %d: expected root" % (path, found.st_uid)
    shared = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if stat.S_ISLNK(found.st_mode):
        return None  # nobody but its owner can change where it leads, and its directory is asked for
    others = (
        found.st_mode & stat.S_IWOTH
        or found.st_mode & stat.S_IWGRP
        and (found.st_gid not in (0, os.getegid()) or _has_acl(path))
    )
    if others and not shared:
        return "%s (mode %04o) can be written by others: %s that root runs must not" % (
            path,
            stat.S_IMODE(found.st_mode),
            what,
        )
    return None


def _has_acl(path):
    """Whether an ACL may let more than the group write: its mask is shown as the group's bits."""
    try:
        os.getxattr(path, "system.posix_acl_access", follow_symlinks=False)
        return True
    except (OSError, AttributeError):
        return False


def others_may_change(path):
    """Why somebody other than root and our user could put something else behind this path, or None. OSError.

    Each directory and link on the way is asked, not only the file: it is run by this path.
    """
    parts, here, links = os.path.abspath(path).split("/")[::-1], "", 0
    problem = _mode("/", "the directory of a program")
    while parts and not problem:
        name = parts.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)
            continue
        step = here + "/" + name
        problem = _mode(step, "the directory of a program" if parts else "a program")
        if os.path.islink(step):
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(step)
            here = "" if target.startswith("/") else here
            parts.extend(target.split("/")[::-1])
        else:
            here = step
    return problem


def only_roots(name, value):
    """Whether a variable of the dynamic loader (LD_...) names only what root and our user alone can change.

    What is not there cannot be put there by others, if its directory is not theirs.
    """
    directories = name == "LD_LIBRARY_PATH"
    for part in re.split("[:;]" if directories else "[: ]", value):
        if "/" not in part and not directories:
            continue  # a setting, or a library that is looked for by its name
        try:
            if not os.path.isabs(part) or others_may_change(part):
                return False
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def refusal(path):
    """Why this program is not run, or None where it may be. The text says what was found and expected."""
    advice = ": it was not run"
    if not is_falco(path):
        name = os.path.basename(path)
        if name in RUNTIMES:
            return CONTAINER % path
        return (
            "%s is not Falco by its name, but a wrapper or start script%s; start Falco, so that its process "
            "can be looked at" % (path, advice)
        )
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "%s is not a regular file%s" % (path, advice)
        problem = others_may_change(path)
        return problem and problem + advice or _kind(os.path.realpath(path), advice)
    except OSError as error:
        return "%s can't be examined: %s" % (path, os.strerror(error.errno or 5))


def _kind(path, advice):
    with host.regular(path) as stream:
        if stream.read(4) == ELF:
            return None
    words = interpreter(path)
    if words is None:
        return "%s is neither an ELF file nor a script%s; expected Falco's program" % (path, advice)
    if _runs_shell(words):
        return (
            "%s is a script of %s%s; expected Falco's program, an ELF file. Name it in ExecStart, or "
            "start Falco, so that its process can be looked at" % (path, " ".join(words) or "a shell", advice)
        )
    problem = others_may_change(words[0])
    return problem and "%s is a script, and %s%s" % (path, problem, advice)


def of_process(process):
    """Words of a running process from its program on: [path, argument, ...]; [] where it can't be told.

    The path is that of /proc/PID/exe, whatever the process calls itself. Of a script's interpreter it is the
    script.
    """
    given = process.arguments()
    link = process.path + "/exe"
    try:
        os.readlink(link)
        # Twice a link where host_root shows another /proc.
        program = os.path.realpath(link)
    except OSError:
        program = None
    if program is None or program.startswith(process.path):
        # Not readable without become; then nothing is run that the arguments do not name whole.
        return given if given and os.path.isabs(given[0]) else []
    if program.endswith(" (deleted)"):
        program = program[: -len(" (deleted)")]  # an upgrade has put a new file there
    for position in (1, 2):
        if _reads(program, given[position : position + 1]):
            return given[position:]
    return [program] + given[1:]


def _reads(program, words):
    """Whether this program is the interpreter of the script that a word names."""
    if not words or not os.path.isabs(words[0]) or not os.path.isfile(words[0]):
        return False
    try:
        found = interpreter(words[0])
    except OSError:
        return False
    if not found:
        return False
    return os.path.basename(found[0]) == "env" or os.path.realpath(found[0]) == program


def of_words(words):
    """The words of an ExecStart from Falco's program on, without the wrappers before it.

    A container's runtime and a script stay as they are: there is no program of Falco's to be seen in them.
    """
    if not words or is_falco(words[0]) or os.path.basename(words[0]) not in WRAPPERS:
        return words
    for position, word in enumerate(words):
        if os.path.isabs(word) and is_falco(word):
            return words[position:]
    return words
