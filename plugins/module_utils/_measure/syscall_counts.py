# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How often each system call is made on this host, counted by the kernel. Stdlib only, Python 3.6+, root.

tracefs: a histogram in a tracing instance of our own. It counts in the kernel and writes to no ring buffer.
perf:    `perf stat` on a tracepoint for each call. Many counters, which the kernel takes seconds to release.

A watchdog in a session of its own does it. It ends, and removes what it made, as soon as its caller is gone.
What is left when the watchdog is killed is found by its name and its lock (the kernel releases that), and
removed by the next run.
"""

import errno
import fcntl
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._host import detach, host
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import callers

MEANS = ("tracefs", "perf")
SECONDS = (0.5, 60.0)
PREFIX = "falcotune-"
EXIT = "sched_process_exit"
# The kernel's own names of functions → the names of the calls in its tables (x86_64, aarch64).
RENAMED = {
    "newfstat": "fstat",
    "newstat": "stat",
    "newlstat": "lstat",
    "newuname": "uname",
    "sendfile64": "sendfile",
    "umount": "umount2",
    "fadvise64_64": "fadvise64",
    "arm64_personality": "personality",
    "sysctl": "_sysctl",
    "llseek": "_llseek",
}
# Numbers beyond it are no calls of any table; without the filter a hostile program could fill the histogram
# with them.
NUMBERS = 1024
CALLS = (
    "raw_syscalls/sys_enter",
    "hist:keys=id.syscall:size=%d" % NUMBERS,
    " if id >= 0 && id < %d" % NUMBERS,
)
# The same for each thread, beside it: the kernel has no key for users. When it is full, the rest stays
# unknown.
THREADS = (CALLS[0], "hist:keys=id.syscall,common_pid:size=8192", CALLS[2])
EXITS = ("sched/" + EXIT, "hist:keys=common_type:size=128", "")
# A new instance gets this many KiB for each CPU until we make it smaller (TRACE_BUF_SIZE_DEFAULT of
# kernel/trace/trace.c).
BUFFER_KIB = 1408
MEMORY_SHARE = 10
# Falco 0.42 and newer hangs programs of its own on the entries of these, and hides them from perf: their
# exits are counted.
BY_EXIT = ("connect", "creat", "open", "openat", "openat2", "socketcall")
# perf opens one counter for each tracepoint and CPU.
COUNTERS = 65536
# To let go of a tracepoint takes the kernel some 40 ms, and there are 360.
PERF_PATIENCE = 120
OUTPUT = 1 << 23

CLONE_NEWNS = 0x00020000
MS_QUIET = 2 | 4 | 8  # nosuid, nodev, noexec
MS_REC, MS_SLAVE = 1 << 14, 1 << 19
PR_SET_PDEATHSIG = 1


class Unable(Exception):
    """This means can't be used here; the text says what is missing."""


class Abandoned(Exception):
    """Nobody waits for the answer any more."""


def measure(root, seconds, means=MEANS):
    """Count for so many seconds (0.5 to 60) by the first of the means that works. Changes nothing that
    outlives it.

    root: prefix of /proc and /sys. Raises ValueError for other seconds or means.
    → {'means': one of MEANS, 'seconds': measured, 'counts': {name in the kernel's table: calls},
       'callers': who made the frequent ones (callers.of(); {} with perf, which cannot tell),
       'reason': None, 'notes': limits of the numbers}; without counts means and seconds are None
    A call without a name in this kernel is syscall_<number>. sched_process_exit is counted like a call.
    """
    if not SECONDS[0] <= seconds <= SECONDS[1]:
        raise ValueError("seconds is %s: expected %g to %g" % ((seconds,) + SECONDS))
    for name in means:
        if name not in MEANS:
            raise ValueError("means holds %r: expected %s" % (name, ", ".join(MEANS)))
    if os.geteuid() != 0:
        return _nothing("only root may count system calls, and this is user %d: set become" % os.geteuid())
    answer = _watched(root.rstrip("/"), seconds, means)
    if answer is None:
        _watched(root.rstrip("/"), seconds, ())  # whoever killed the watchdog left its instance to us
        answer = _nothing("the process that counts was killed")
    return answer


def _nothing(reason):
    return {"means": None, "seconds": None, "counts": {}, "callers": {}, "reason": reason, "notes": []}


def _watched(root, seconds, means):
    """What attend() returned in a process of its own, or None when that was killed."""
    ours, life = os.pipe()
    answer, theirs = os.pipe()

    def body():
        os.close(life)
        os.close(answer)
        signal.signal(signal.SIGTERM, _stop)
        with os.fdopen(theirs, "w") as stream:
            stream.write(json.dumps(attend(root, seconds, means, ours)))

    watchdog = detach.watchdog(body)
    os.close(ours)
    os.close(theirs)
    try:
        text = _read_all(answer, time.monotonic() + seconds + 2 * PERF_PATIENCE)
    finally:
        os.close(life)  # the watchdog takes this for our end, and cleans up
        os.close(answer)
        os.waitpid(watchdog, 0)
    try:
        return json.loads(text.decode("utf-8"))
    except ValueError:
        return None


def _stop(_number, _frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Abandoned()


def _read_all(handle, deadline):
    """Everything up to the end, or up to the deadline."""
    data = b""
    while len(data) < OUTPUT and select.select([handle], [], [], max(0, deadline - time.monotonic()))[0]:
        chunk = os.read(handle, 65536)
        if not chunk:
            break
        data += chunk
    return data


def attend(root, seconds, means, life):
    """The watchdog's work: the answer of measure()."""
    reasons = []
    tracing = None
    try:
        locked(root)
        tracing = folder(root)
        sweep(tracing)
    except Unable as error:
        return _nothing(str(error))
    for name in means:
        notes = []
        try:
            counts, who, measured = {"tracefs": by_histogram, "perf": by_perf}[name](
                root, tracing, seconds, life, notes
            )
        except Unable as error:
            reasons.append("%s: %s" % (name, error))
        except OSError as error:
            reasons.append("%s: %s" % (name, _told(error)))
        else:
            return {
                "means": name,
                "seconds": round(measured, 6),
                "counts": counts,
                "callers": who,
                "reason": None,
                "notes": notes,
            }
    return _nothing("; ".join(reasons) or "no means was asked for")


def _told(error):
    text = "%s: %s" % (getattr(error, "filename", None) or "tracing", error.strerror or error)
    if error.errno in (errno.EPERM, errno.EACCES):
        text += " (a lockdown of the kernel, a security module, or a container without CAP_SYS_ADMIN)"
    return text


def _wait(life, seconds):
    if select.select([life], [], [], seconds)[0]:
        raise Abandoned()


# -- where the kernel's tracing is ---------------------------------------------------------------------------


def locked(root):
    """Unable where the kernel tells nobody what it does."""
    text = host.read(root + "/sys/kernel/security/lockdown", 256) or ""
    if "[confidentiality]" in text:
        raise Unable(
            "kernel lockdown is 'confidentiality' (%s/sys/kernel/security/lockdown): it forbids tracefs and "
            "perf" % root
        )


def usable(path):
    """Whether a writable tracefs is there."""
    try:
        return os.path.isdir(path + "/instances") and not os.statvfs(path).f_flag & os.ST_RDONLY
    except OSError:
        return False


def folder(root):
    """The folder of tracefs. Where it is mounted nowhere, this process mounts it for itself alone."""
    place, older = root + "/sys/kernel/tracing", root + "/sys/kernel/debug/tracing"
    if usable(place):
        return place
    try:
        _alone()
        if os.path.isdir(place):
            _mount("tracefs", place, "tracefs", MS_QUIET)
    except OSError as error:
        raise Unable(
            "no writable tracefs is mounted at %s, and it can't be mounted: %s" % (place, _told(error))
        )
    # Asked last, and out of sight: to look into it may mount tracefs there.
    for path in (place, older):
        if usable(path):
            return path
    raise Unable(
        "there is no tracefs: neither %s nor %s can be used (a kernel without CONFIG_TRACING, a lockdown "
        "that disabled it, or /sys isn't mounted)" % (place, older)
    )


def _alone():
    """A mount namespace of our own; what we mount is seen by nobody else."""
    _call("unshare", CLONE_NEWNS)
    _mount(None, "/", None, MS_REC | MS_SLAVE)


def _mount(source, target, kind, flags):
    def text(value):
        return value if value is None else os.fsencode(value)

    _call("mount", text(source), text(target), text(kind), _long(flags), None)


def _long(number):
    import ctypes

    return ctypes.c_ulong(number)


def _call(name, *arguments):
    """A function of the C library; OSError where it fails."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


# -- the histogram -------------------------------------------------------------------------------------------


def by_histogram(root, tracing, seconds, life, notes):
    """({name: calls}, who made them, seconds)"""
    event = "%s/events/%s" % (tracing, CALLS[0])
    if not os.path.isdir(event):
        raise Unable("there is no event %s: the kernel was built without CONFIG_FTRACE_SYSCALLS" % CALLS[0])
    if not os.path.exists(event + "/hist"):
        raise Unable("there is no %s/hist: the kernel was built without CONFIG_HIST_TRIGGERS" % event)
    _afford(root, tracing)
    instance = Instance(tracing)
    try:
        # The histograms are made at rest, which takes long, and set going at a moment that we know.
        instance.write("buffer_size_kb", "4")
        exits = instance.trigger(EXITS, ":pause", notes, "exits are not counted")
        threads = instance.trigger(THREADS, ":pause", notes, UNKNOWN)
        instance.trigger(CALLS, ":pause")
        others = [what for what, there in ((EXITS, exits), (THREADS, threads)) if there]
        for what in others:
            instance.trigger(what, ":cont")
        instance.trigger(CALLS, ":cont")
        uptime, began = callers.moment(root), time.monotonic()
        _wait(life, seconds)
        instance.trigger(CALLS, ":pause")
        measured = time.monotonic() - began
        for what in others:
            instance.trigger(what, ":pause")
        text, by_thread = parted(instance.histogram(CALLS))
        counts = histogram(text, notes)
        who = _callers(root, by_thread, counts, uptime, notes) if threads else {}
        if exits:
            ended = sum(int(number) for number in HITS.findall(instance.histogram(EXITS)))
            counts.update({EXIT: ended} if ended else {})
        return counts, who, measured
    finally:
        instance.remove()


def _callers(root, text, counts, uptime, notes):
    def named(function, number):
        return call_name(function) if function != "unknown_syscall" else "syscall_%d" % number

    try:
        return callers.of(root, text, counts, named, uptime)
    except ValueError as error:
        notes.append("%s: %s" % (UNKNOWN, error))
        return {}


def _afford(root, tracing):
    """Unable where a new instance would take much of the memory, for the moment that it takes us to make it
    smaller.
    """
    match = re.search(r"expanded: (\d+)", host.read(tracing + "/buffer_size_kb", 256) or "")
    wanted = (
        (int(match.group(1)) if match else BUFFER_KIB)
        * 1024
        * (host.cpus(root)["online"] or os.sysconf("SC_NPROCESSORS_ONLN"))
    )
    available = host.memory(root)["available"]
    if available is not None and wanted * MEMORY_SHARE > available:
        raise Unable(
            "a tracing instance takes %d MiB at first, more than a tenth of the %d MiB that are available"
            % (wanted >> 20, available >> 20)
        )


class Instance:
    """A tracing instance of our own, held by a lock that dies with its owner."""

    def __init__(self, tracing):
        for _dummy in range(5):
            self.path = "%s/instances/%s%d-%s" % (tracing, PREFIX, os.getpid(), os.urandom(4).hex())
            os.mkdir(self.path, 0o700)
            self.handle = _hold(self.path)
            if self.handle is not None:
                return
        raise Unable("somebody removes our tracing instances as soon as they are made")

    def trigger(self, what, action, notes=None, lost=None):
        """Set a histogram; with notes it is one that we can do without, and they say what is lost then."""
        event, keys, condition = what
        try:
            self.write("events/%s/trigger" % event, keys + action + condition)
        except OSError as error:
            if notes is None:
                raise
            notes.append("%s: %s" % (lost, _told(error)))
            return False
        return True

    def write(self, name, text):
        # Appended: to truncate a trigger file removes its triggers.
        handle = os.open("%s/%s" % (self.path, name), os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, text.encode("ascii"))
        finally:
            os.close(handle)

    def histogram(self, what):
        return host.read("%s/events/%s/hist" % (self.path, what[0]), OUTPUT) or ""

    def remove(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _remove(self.path)
        os.close(self.handle)


def _hold(path):
    """A handle that locks this instance, or None where it is another's, or gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(handle).st_ino:
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


def _remove(path):
    """Triggers first, then the instance; OSError where it stays."""
    for event in (CALLS[0], EXITS[0]):
        try:
            os.close(os.open("%s/events/%s/trigger" % (path, event), os.O_WRONLY | os.O_TRUNC))
        except OSError:
            pass
    deadline = time.monotonic() + 5
    while True:
        try:
            os.rmdir(path)
            return
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.05)  # somebody looks into it


def sweep(tracing):
    """Remove instances whose owner was killed."""
    for name in sorted(os.listdir(tracing + "/instances")):
        path = "%s/instances/%s" % (tracing, name)
        handle = _hold(path) if name.startswith(PREFIX) else None
        if handle is not None:
            try:
                _remove(path)
            except OSError:
                pass
            os.close(handle)


TITLE = "# event histogram"
UNKNOWN = "who made the calls is not known"
ENTRY = re.compile(r"^\{ id: (\w+) *\[ *(\d+)\] *\} hitcount: +(\d+)", re.M)
HITS = re.compile(r"hitcount: +(\d+)")
DROPPED = re.compile(r"^ *Dropped: (\d+)", re.M)


def parted(text):
    """(the histogram of the calls, that by thread) of what the kernel shows of one event."""
    parts = text.split(TITLE)
    by_thread = [part for part in parts if "keys=id.syscall,common_pid" in part[:500]]
    return TITLE.join(part for part in parts if part not in by_thread), TITLE.join(by_thread)


def histogram(text, notes):
    """{name: calls} of what the kernel prints for CALLS; what is missing goes into notes."""
    counts = {}
    for function, number, hits in ENTRY.findall(text):
        name = call_name(function) if function != "unknown_syscall" else "syscall_%d" % int(number)
        if name and int(hits):
            counts[name] = counts.get(name, 0) + int(hits)
    dropped = sum(int(number) for number in DROPPED.findall(text))
    if dropped:
        notes.append("the kernel could not count %d calls (Dropped)" % dropped)
    if not DROPPED.search(text):
        notes.append("the histogram has no end: some calls may be missing")
    return counts


def call_name(function, prefix="sys_"):
    """sys_newfstat → fstat; None for what is no name of a call."""
    match = re.match("^" + prefix + r"([a-z_][a-z0-9_]{0,62})$", function)
    return RENAMED.get(match.group(1), match.group(1)) if match else None


# -- perf ----------------------------------------------------------------------------------------------------


def by_perf(root, tracing, seconds, life, notes):
    """({name: calls}, {}, seconds): perf does not tell who made them."""
    try:
        events = [name for name in os.listdir(tracing + "/events/syscalls") if name.startswith("sys_enter_")]
    except OSError:
        events = []
    if not events:
        raise Unable(
            "there are no events syscalls/sys_enter_*: the kernel was built without CONFIG_FTRACE_SYSCALLS"
        )
    binary = shutil.which("perf", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if binary is None:
        raise Unable("perf isn't installed (Debian: linux-perf)")
    cpus = host.cpus(root)["online"] or os.sysconf("SC_NPROCESSORS_ONLN")
    if len(events) * cpus > COUNTERS:
        raise Unable("%d calls on %d CPUs would need more than %d counters" % (len(events), cpus, COUNTERS))
    events = [
        name.replace("enter", "exit", 1) if name[len("sys_enter_") :] in BY_EXIT else name
        for name in sorted(events)
    ]
    # In braces they are one group, which a CPU begins and ends at one moment.
    listed = "{%s}" % ",".join(["syscalls:" + name for name in events] + ["sched:" + EXIT])
    status, text = _perf(
        [binary, "stat", "-a", "-A", "-x", ",", "-e", listed, "--timeout", "%d" % (seconds * 1000)],
        seconds + PERF_PATIENCE,
        life,
    )
    counts, measured = counters(text, notes)
    if status != 0 or measured is None:
        raise Unable(
            "perf stat ended with %s: %s (perf_event_paranoid is %s)"
            % (
                "no answer in time" if status is None else status,
                _cause(text),
                (host.read(root + "/proc/sys/kernel/perf_event_paranoid", 64) or "unknown").strip(),
            )
        )
    notes.append("%s: perf counts for each CPU" % UNKNOWN)
    return counts, {}, measured


def _cause(text):
    """The lines of perf's that say what is wrong, or its last ones."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    wrong = [line for line in lines if re.search("error|permi|denied|not found", line, re.I)]
    return " | ".join((wrong or lines[-2:])[:2])[:300] or "it said nothing"


def _perf(command, patience, life):
    """(exit status, or None for one that was too slow, what it said). It dies with us."""
    import ctypes

    control, watchdog = ctypes.CDLL(None).prctl, os.getpid()

    def bind():
        control(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getppid() != watchdog:
            os._exit(1)

    process = subprocess.Popen(  # pylint: disable=ansible-bad-function
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=bind,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/"},
    )
    data, deadline = b"", time.monotonic() + patience
    try:
        while True:
            ready = select.select([life, process.stderr], [], [], max(0, deadline - time.monotonic()))[0]
            if life in ready:
                raise Abandoned()
            if not ready:
                return None, data.decode("utf-8", "replace")
            chunk = os.read(process.stderr.fileno(), 65536)
            if not chunk:
                return process.wait(), data.decode("utf-8", "replace")
            data = (data + chunk)[:OUTPUT]
    finally:
        process.stderr.close()
        if process.poll() is None:
            process.kill()
            process.wait()


COUNTER = re.compile(r"^CPU\d+,(\d+|<[^,>]*>),[^,]*,([a-z0-9_]+:[a-z0-9_]+),(\d+),")


def counters(text, notes):
    """({name: calls}, seconds or None) of perf's lines 'CPU,calls,unit,event,ns that it counted,percent'.

    perf begins with one CPU after the other: each says how long it counted, and all are brought to the same
    window.
    """
    found, lost = [], set()
    for line in text.splitlines():
        match = COUNTER.match(line)
        name = match and (
            EXIT
            if match.group(2) == "sched:" + EXIT
            else call_name(match.group(2), "syscalls:sys_(?:enter|exit)_")
        )
        if not name or int(match.group(3)) == 0:
            continue
        if match.group(1).isdigit():
            found.append((name, int(match.group(1)), int(match.group(3))))
        else:
            lost.add(name)
    if lost:
        notes.append("perf did not count %s" % ", ".join(sorted(lost)[:10]))
    if not found:
        return {}, None
    window = sorted(ran for dummy, dummy2, ran in found)[len(found) // 2]
    counts = {}
    for name, calls, ran in found:
        if calls:
            counts[name] = counts.get(name, 0) + calls * window / float(ran)
    return {name: int(round(calls)) for name, calls in counts.items()}, window / 1e9
