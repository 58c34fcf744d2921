# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which system calls carry the state that the fields of rules read. Pure.

Falco keeps tables of processes and descriptors, and fills them from events. A rule whose own event types are
selected still falls silent, or reads a wrong value, where a call that changes these tables is not selected:
`fd.name` of openat is relative to a directory handle that fcntl copied.

The model: a field, seen at an event type, reads a *subject* (the table entry behind it). A subject is correct
only if each call that can make or change it is selected. Each such call is a *way*: "descriptors received
from another process". What Falco itself does not collect by default is not a way: the model says what a
selection loses against Falco's default selection.

Entry points: needs(rule, release), unseen(rule, kernel, release) and carrying(rules, kernel, release).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Read
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.syscall_names import (
    EVENT_TO_KERNEL,
    KERNEL_ONLY,
    Names,
    names_for,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import reads

# Evidence of a row, on Falco 0.44.1 (tests/parity/matrix.csv; its test holds this column against it).

# Only this call was left out of the default selection. Its scenarios were lost or read other values.
MEASURED = "measured"
# No difference was measured for this call: in libs 0.25.4, userspace/libsinsp/parsers.cpp changes the subject
# at this event.
SOURCE = "read from source"
# Neither: selecting it does no harm, and leaving it out would be a loss if it is needed.
ASSUMED = "assumed"

# What a subject is, in the words of a way.
SUBJECTS = {
    "path": "paths relative to a directory handle",
    "cwd": "paths relative to the working directory",
    "fchdir": "working directories entered through a handle",
    "fd": "descriptors",
    "stdio": "standard streams",
    "user": "user ids",
    "group": "group ids",
    "caps": "capabilities",
    "process": "processes",
    "session": "sessions",
    "limits": "limits",
    "all": "state of any kind",
}


class Row(NamedTuple):
    """Calls that carry a subject.

    subjects, calls: names, separated by blanks; calls are kernel names, of which each is a way of its own;
    calls joined by | carry the same, so one of them is enough. words: what the calls do, behind SUBJECTS.
    kinds: for descriptors, the kinds that they make; '' is all. names_only: needed for addresses and names of
    sockets, not for their type. stale: without the call an old value stays, so that rules fire wrongly. The
    span of releases for which a row holds is that in which Falco collects the call for its state
    (syscall_names.STATE_SINCE, STATE_UNTIL).
    """

    subjects: str
    calls: str
    words: str
    evidence: str
    kinds: str = ""
    names_only: bool = False
    stale: bool = False


TABLE = (
    # Descriptors are copied, received, taken, inherited and closed, whatever they are.
    Row("path fchdir fd stdio", "dup dup2", "copied by {call}: shells that redirect", MEASURED),
    Row("path fchdir fd stdio", "dup3", "copied by {call}", MEASURED),
    Row(
        "path fchdir fd stdio",
        "fcntl",
        "copied by fcntl (F_DUPFD): grep -r, find, rm -r, chmod -R, shells that save a descriptor",
        MEASURED,
    ),
    Row("path fchdir fd stdio", "recvmsg", "received from another process (SCM_RIGHTS, {call})", MEASURED),
    Row("path fchdir fd stdio", "recvmmsg", "received from another process (SCM_RIGHTS, {call})", SOURCE),
    # Falco looks into a received message only where it knows the receiving socket.
    Row(
        "path fchdir fd stdio",
        "socketpair",
        "received from another process over a socket made by {call}",
        MEASURED,
    ),
    Row(
        "path fchdir fd stdio",
        "socket accept accept4",
        "received from another process over a socket made by {call}",
        SOURCE,
    ),
    Row("path fchdir fd stdio", "pidfd_open pidfd_getfd", "taken from another process ({call})", MEASURED),
    Row("path fchdir fd stdio", "clone clone3 fork", "inherited by a child process ({call})", MEASURED),
    Row("path fchdir fd stdio", "vfork", "inherited by a child process ({call})", SOURCE),
    # Either of the two is enough, so taking one away shows nothing.
    Row("path fchdir fd stdio", "execve|execveat", "closed when a program is executed", SOURCE, stale=True),
    Row("path fchdir fd stdio", "close", "closed and their number used again", MEASURED, stale=True),
    Row(
        "path fchdir fd stdio",
        "close_range",
        "closed by close_range and their number used again",
        MEASURED,
        stale=True,
    ),
    # Makers of descriptors: the very call that made it, no other.
    Row("path fchdir", "openat open_by_handle_at", "opened by {call}", MEASURED),
    Row("path fchdir", "open openat2", "opened by {call}", SOURCE),
    Row(
        "fd stdio",
        "open creat openat openat2 open_by_handle_at",
        "of files opened by {call}",
        MEASURED,
        "file directory",
    ),
    Row("fd stdio", "socket", "of sockets made by {call}", MEASURED, "tcp udp unix netlink"),
    Row(
        "fd stdio",
        "connect",
        "of sockets: where they are connected to",
        MEASURED,
        "tcp udp unix",
        names_only=True,
    ),
    Row(
        "fd stdio",
        "accept accept4",
        "of connections taken by {call}: servers, bind shells",
        MEASURED,
        "tcp udp unix",
    ),
    Row(
        "fd stdio",
        "bind",
        "of sockets: the address that they are bound to",
        MEASURED,
        "tcp udp unix",
        names_only=True,
    ),
    Row(
        "fd stdio",
        "sendto sendmsg recvfrom recvmsg",
        "of UDP sockets: the peer that {call} names",
        MEASURED,
        "udp",
        names_only=True,
    ),
    Row(
        "fd stdio",
        "sendmmsg recvmmsg",
        "of UDP sockets: the peer that {call} names",
        SOURCE,
        "udp",
        names_only=True,
    ),
    Row("fd stdio", "socketpair", "of pairs of sockets", MEASURED, "unix"),
    Row("fd stdio", "pipe pipe2", "of pipes ({call})", MEASURED, "pipe"),
    Row("fd stdio", "memfd_create", "of files in memory", MEASURED, "memfd"),
    Row("fd stdio", "eventfd eventfd2", "of {call}", MEASURED, "event"),
    Row(
        "fd stdio",
        "signalfd4 timerfd_create userfaultfd",
        "of {call}",
        MEASURED,
        "signalfd timerfd userfaultfd",
    ),
    Row("fd stdio", "signalfd", "of {call}", SOURCE, "signalfd"),
    Row(
        "fd stdio",
        "inotify_init1 epoll_create1 io_uring_setup",
        "of {call}",
        MEASURED,
        "inotify eventpoll io_uring",
    ),
    Row("fd stdio", "inotify_init epoll_create", "of {call}", SOURCE, "inotify eventpoll"),
    Row("fd stdio", "pidfd_open", "of processes (pidfd)", MEASURED, "pidfd"),
    # Working directories.
    Row("cwd", "chdir fchdir", "set by {call}", MEASURED),
    # Processes: what a program is, whose child, and all that a child takes from its parent.
    Row(
        "cwd user group caps process session limits",
        "clone clone3 fork",
        "of child processes made by {call}",
        MEASURED,
    ),
    Row("cwd user group caps process session limits", "vfork", "of child processes made by {call}", SOURCE),
    Row(
        "cwd user group caps process session limits",
        "execve|execveat",
        "of programs that a process executes",
        SOURCE,
        stale=True,
    ),
    Row("process", "prctl", "adopted by a subreaper", SOURCE),
    Row("process", "sched_process_exit", "that ended, and their children's parents", SOURCE, stale=True),
    Row("session", "setsid", "begun by setsid", MEASURED),
    Row("session", "setpgid", "and process groups set by setpgid", ASSUMED),
    Row("user", "setuid setreuid setresuid", "changed by {call}", MEASURED, stale=True),
    Row("group", "setgid setregid setresgid", "changed by {call}", MEASURED, stale=True),
    Row("caps", "capset", "dropped or gained by capset", MEASURED, stale=True),
    Row("limits", "prlimit64", "set by prlimit", MEASURED, stale=True),
    Row("limits", "setrlimit", "set by setrlimit", SOURCE, stale=True),
)

# How an event brings its descriptor (kernel names).

# It opens a path: the name comes from the path, the working directory and, for those in OF_HANDLE, a
# directory handle.
OPENS = frozenset(["open", "creat", "openat", "openat2"])
# It makes the descriptor, and brings all that is known of it.
MAKES = frozenset(
    """
    accept accept4 bpf epoll_create epoll_create1 eventfd eventfd2 inotify_init inotify_init1 io_uring_setup
    memfd_create open_by_handle_at pidfd_open pipe pipe2 signalfd signalfd4 socket socketpair timerfd_create
    userfaultfd
""".split()
)
# It acts on a socket before that has a peer: only the socket must be known.
ON_SOCKET = frozenset(["bind", "connect", "listen"])
# Kinds of descriptors that no call of TABLE makes.
UNTRACKED = frozenset(["bpf", "other"])
# Paths relative to a directory handle.
OF_HANDLE = frozenset(
    """
    execveat faccessat faccessat2 fchmodat fchmodat2 fchownat futimesat getxattrat linkat listxattrat mkdirat
    mknodat name_to_handle_at newfstatat openat openat2 readlinkat removexattrat renameat renameat2 setxattrat
    statx symlinkat unlinkat utimensat
""".split()
)
# Paths relative to the working directory only.
OF_PATH = frozenset(
    """
    access acct chdir chmod chown chroot creat execve lchown link lstat lstat64 mkdir mknod mount open
    pivot_root quotactl readlink rename rmdir stat stat64 statfs swapoff swapon symlink truncate umount
    umount2 unlink uselib utime utimes
""".split()
)
# No descriptor at all.
OF_NO_DESCRIPTOR = OF_PATH - OPENS | frozenset(
    """
    alarm arch_prctl brk capget capset clone clone3 delete_module execve execveat exit exit_group fork futex
    getcwd getegid geteuid getgid getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid
    getrlimit getrusage getsid gettid getuid init_module keyctl kill madvise mlock mlock2 mlockall mprotect
    munlock munlockall munmap nanosleep personality pivot_root prctl prlimit64 process_vm_readv
    process_vm_writev ptrace reboot rt_sigaction rt_sigprocmask sched_process_exit sched_switch seccomp semctl
    semget semop setgid setgroups setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid
    setuid shmat shmctl shmdt shmget signal_deliver sysinfo syslog tgkill tkill umask uname unshare vfork
    wait4 waitid
""".split()
)

# Fields that need nothing but their own event.
EVENT_ONLY = re.compile(
    r"evt\.(type|type\.is|num|time.*|datetime.*|rawtime.*|dir|pluginname|plugininfo|source|hostname|is_async"
    r"|asynctype|cpu"
    r"|rawres|res|failed|is_open_\w+|deltatime.*|outputtime|latency.*|reltime.*|buffer|buflen|buflen\.(in"
    r"|out)|around|count"
    r"|count\.(error|error\.memory|error\.other|exit|procinfo|threadinfo)|is_io\w*|io_dir|is_wait"
    r"|wait_latency|infra\..*"
    r"|arg\.\w+|rawarg\.\w+|rawarg)|syscall\.type|fd\.num|fd\.nameraw|fd\.containername|fs\.path\.\w+raw"
    r"|rule\..*"
)
# Arguments that Falco prints as a whole path: put together from the working directory or the handle.
PATH_ARGUMENTS = re.compile(
    r"evt\.arg\.(name|path|pathname|oldpath|newpath|filename|linkpath|target|dir|source|src|dest|special"
    r"|linkdirfd|newdir|olddir)"
    r"|evt\.abspath|evt\.args|evt\.info|evt\.arg|fs\.path\.(name|source|target)"
)
# What Falco says of an event by the descriptor that it acts on.
OF_DESCRIPTOR = re.compile(
    r"evt\.(category|is_syslog|buflen\.(file|net).*|count\.error\.(file|net)|args|info|arg|arg\.\w*fd)"
    r"|fdlist\.\w+|fd\.types"
)
# Fields of a socket that its type says already.
OF_TYPE = re.compile(r"(fd|proc\.std(in|out|err))\.(type|typechar|sockfamily|types)")
# Fields of an opened file that the path alone does not say.
OF_NAME = re.compile(r"fd\.(name|directory|filename|containerdirectory|name_changed|types)")

# Subjects of fields, by the first pattern that fits.
FIELDS = (
    (re.compile(r"proc\.(std(in|out|err)\.\w+)"), ("stdio", "process")),
    (re.compile(r"proc\.(fdopencount|fdusage)"), ("stdio", "process", "limits")),
    (re.compile(r"proc\.fdlimit"), ("limits",)),
    (re.compile(r"proc\.(cwd|acwd|pcwd)"), ("cwd", "fchdir", "path", "process")),
    (
        re.compile(r"proc\.(sid|sname|sid\..*|is_sid_leader|v?pgid|v?pgid\..*|is_v?pgid_leader)"),
        ("session", "process"),
    ),
    (re.compile(r"user\.login\w+"), ("process",)),
    (re.compile(r"user\.\w+"), ("user", "process")),
    (re.compile(r"group\.\w+"), ("group", "process")),
    (re.compile(r"thread\.cap_\w+"), ("caps", "process")),
    # Of the container plugin: by the cgroups of the process.
    (re.compile(r"(proc|thread|container|k8s)\..*"), ("process",)),
)


class Need(NamedTuple):
    """One way that a rule's fields can come by their value.

    subject: of SUBJECTS. calls: kernel names; one of them is enough. way: in words. fields: those that read
    it. negated: a wrong value can make the condition true. only_output: no field of the condition reads it.
    makes: the calls make a descriptor known; without that, they copy or change what is known. stale,
    evidence: see Row.
    """

    subject: str
    calls: tuple[str, ...]
    way: str
    fields: tuple[str, ...]
    negated: bool
    only_output: bool
    makes: bool
    stale: bool
    evidence: str


def needs(rule: Mapping[str, Any], release: releases.Release | str) -> list[Need]:
    """The calls that carry what a rule's fields read, beside the rule's own event types.

    rule: as ruleset.resolve() and listing.parse() give it: 'kernel' and 'reads' are read. release: a Release
    or a version, 0.35 or newer.
    """
    read = rule["reads"]
    fields = tuple(
        tuple(item[key] for key in ("field", "place", "negated", "tail")) for item in read["fields"]
    )
    kinds = tuple((operand, tuple(names)) for operand, names in sorted(read["kinds"].items()))
    return list(_needs(frozenset(rule["kernel"]), fields, kinds, names_for(release)))


@functools.lru_cache(maxsize=4096)
def _needs(
    kernel: frozenset[str],
    fields: tuple[Any, ...],
    kinds: tuple[tuple[str, tuple[str, ...]], ...],
    names: Names,
) -> tuple[Need, ...]:
    by_operand = dict(kinds)
    # What is read of each subject: fields that read the same are looked up once.
    wanted: dict[tuple[str, frozenset[str], bool], list[Any]] = {}
    for field, place, negated, tail in fields:
        read: Read = {"field": field, "place": place, "negated": negated, "tail": tail}
        for key in _subjects(read, kernel, by_operand):
            entry = wanted.setdefault(key, [set(), False, True])
            entry[0].add(field)
            entry[1] = entry[1] or negated
            entry[2] = entry[2] and place == "output"
    made: dict[tuple[tuple[str, ...], str], list[Any]] = {}
    for (subject, which, names_too), entry in wanted.items():
        for row, calls, way in _ways(subject, names):
            if row.kinds and not which & set(row.kinds.split()) or row.names_only and not names_too:
                continue
            known = made.setdefault((calls, way), [row, subject, set(), False, True])
            known[2] |= entry[0]
            known[3] = known[3] or entry[1]
            known[4] = known[4] and entry[2]
    return tuple(
        Need(
            subject,
            calls,
            way,
            tuple(sorted(read_by)),
            negated,
            only_output,
            bool(row.kinds),
            row.stale,
            row.evidence,
        )
        for (calls, way), (row, subject, read_by, negated, only_output) in made.items()
    )


def unseen(rule: Mapping[str, Any], kernel: Iterable[str], release: releases.Release | str) -> list[Need]:
    """The needs of a rule that a selection (kernel names) does not meet.

    The calls that the rule names itself are events, not state, so they do not count.
    """
    seen = set(kernel) | set(rule["kernel"])
    return [need for need in needs(rule, release) if not seen & set(need.calls)]


def never(rule: Mapping[str, Any], kernel: Iterable[str], release: releases.Release | str) -> bool:
    """Whether a rule can no longer fire under a selection (kernel names), although its events arrive.

    That is so where its condition requires a descriptor, its events do not bring one themselves, and no call
    that makes a descriptor of these kinds is selected. Descriptors that were open when Falco started are not
    counted.
    """
    seen, found = set(kernel), needs(rule, release)
    for operand in rule["reads"]["required"]:
        kinds = frozenset(rule["reads"]["kinds"].get(operand, reads.KINDS))
        brought = operand == "fd" and seen & set(rule["kernel"]) & (OPENS | MAKES | ON_SOCKET | OF_HANDLE)
        if kinds & UNTRACKED or brought:
            continue
        makers = [
            need
            for need in found
            if need.makes and any(field.startswith(operand + ".") for field in need.fields)
        ]
        if makers and not any(seen & set(need.calls) for need in makers):
            return True
    return False


def carrying(
    rules: Iterable[Mapping[str, Any]], kernel: Iterable[str], release: releases.Release | str
) -> dict[str, list[Need]]:
    """The kernel names to add to a selection so that the rules see what they see by default.

    → {call: [Need]}. The default is Falco's own selection.
    """
    missing: dict[str, list[Need]] = {}
    selected = set(kernel)
    for rule in rules:
        for need in needs(rule, release):
            if not selected & set(need.calls):
                for call in need.calls:
                    missing.setdefault(call, []).append(need)
    return missing


def unknown_fields(rule: Mapping[str, Any]) -> list[str]:
    """Fields of a rule that the model does not know.

    They are treated as if they needed every call of Falco's default selection.
    """
    return sorted({read["field"] for read in rule["reads"]["fields"] if _unknown(read["field"])})


def _subjects(
    read: Read, kernel: frozenset[str], kinds: Mapping[str, Sequence[str]]
) -> list[tuple[str, frozenset[str], bool]]:
    """The subjects that a field reads at the rule's event types.

    → [(subject, kinds of descriptors, whether names of sockets are read)]
    """
    name = read["field"]
    names_too = not OF_TYPE.fullmatch(name)
    found: list[tuple[str, frozenset[str], bool]] = []
    if PATH_ARGUMENTS.fullmatch(name) and not read["tail"]:
        found.extend((subject, reads.KINDS, True) for subject in _of_paths(kernel))
    if OF_DESCRIPTOR.fullmatch(name) and kernel - OPENS - MAKES - OF_NO_DESCRIPTOR - OF_HANDLE:
        found.append(("fd", reads.KINDS, names_too))
    if found or EVENT_ONLY.fullmatch(name) or PATH_ARGUMENTS.fullmatch(name) or OF_DESCRIPTOR.fullmatch(name):
        return found
    if name.startswith("fd."):
        return _of_descriptor(read, kernel, frozenset(kinds.get("fd", reads.KINDS)), names_too)
    for pattern, subjects in FIELDS:
        if pattern.fullmatch(name):
            operand = name.rpartition(".")[0]
            which = frozenset(kinds.get(operand, reads.KINDS))
            return [(subject, which, names_too) for subject in subjects]
    return [("all", reads.KINDS, True)]


def _of_paths(kernel: frozenset[str]) -> list[str]:
    found = []
    if kernel & (OF_PATH | OF_HANDLE):
        found.extend(["cwd", "fchdir"])
    if kernel & OF_HANDLE:
        found.append("path")
    return found


def _of_descriptor(
    read: Read, kernel: frozenset[str], kinds: frozenset[str], names_too: bool
) -> list[tuple[str, frozenset[str], bool]]:
    found: list[tuple[str, frozenset[str], bool]] = []
    if OF_NAME.fullmatch(read["field"]) and not read["tail"]:
        found.extend((subject, reads.KINDS, True) for subject in _of_paths(kernel & (OPENS | OF_HANDLE)))
    others = kernel - OPENS - MAKES - OF_NO_DESCRIPTOR - OF_HANDLE
    if others - ON_SOCKET:
        found.append(("fd", kinds, names_too))
    elif others:
        # The peer is what the event itself brings.
        found.append(
            ("fd", kinds & frozenset(["tcp", "unix", "netlink"]) or frozenset(["tcp"]), others != {"connect"})
        )
    return found


def _unknown(name: str) -> bool:
    patterns = [EVENT_ONLY, PATH_ARGUMENTS, OF_DESCRIPTOR, *(pattern for pattern, _subjects_ in FIELDS)]
    return not name.startswith("fd.") and not any(pattern.fullmatch(name) for pattern in patterns)


@functools.cache
def _ways(subject: str, names: Names) -> tuple[tuple[Row, tuple[str, ...], str], ...]:
    """(row, calls, words) of each way of a subject that this release collects."""
    found = []
    for row in TABLE:
        if subject == "all" or subject in row.subjects.split():
            for calls in row.calls.split():
                group = _collected(calls, names)
                if group:
                    found.append((row, group, _way(subject, row, calls)))
    return tuple(found)


def _collected(calls: str, names: Names) -> tuple[str, ...]:
    """The kernel names behind calls that this release collects by default; () if it collects none."""
    group: set[str] = set()
    for call in calls.split("|"):
        event = KERNEL_ONLY.get(call, call)
        # accept4 is a call of its own; setuid32 and the like are the same call on other machines.
        group.update((call,) if call in ("accept", "accept4") else EVENT_TO_KERNEL.get(event, (call,)))
    return tuple(sorted(group & names.state))


def _way(subject: str, row: Row, calls: str) -> str:
    if subject == "all":
        return SUBJECTS["all"]
    call = KERNEL_ONLY.get(calls, calls)
    return "%s %s" % (SUBJECTS[subject], row.words.format(call=call))
