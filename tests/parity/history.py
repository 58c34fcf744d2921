# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scenario did to come by the values that its marked event reads, followed through an `strace -f` of it.

As the kernel has it and without any look at what Falco said: the history of the descriptor, of the directory handle, of the working
directory, of the standard input and of the process, each as the set of system calls in it.
"""

import re
from collections import defaultdict

LINE = re.compile(r"(\d+) +([a-z0-9_]+)\((.*)\) += (-?\d+|\?)(.*)$")
UNFINISHED = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")
HANDLE = {"openat", "openat2", "unlinkat", "mkdirat", "fchmodat", "fchownat", "renameat", "renameat2", "linkat"}
MAKERS = {"memfd_create", "eventfd", "eventfd2", "signalfd", "signalfd4", "timerfd_create", "inotify_init", "inotify_init1",
          "userfaultfd", "io_uring_setup", "epoll_create", "epoll_create1", "pidfd_open", "socket", "bpf", "creat",
          "open_by_handle_at"}
IDS = {"setuid": "user", "setreuid": "user", "setresuid": "user", "setgid": "group", "setregid": "group", "setresgid": "group",
       "capset": "caps", "setsid": "session", "prlimit64": "limits", "setrlimit": "limits", "setpgid": "session"}


class Process:
    def __init__(self):
        self.fds, self.cwd = {}, set()
        self.facts = defaultdict(set)
        self.closed, self.on_exec = {}, set()
        # What made this process or thread, since it last executed a program: its table is known by that.
        self.born = set()

    def child(self, call, shares):
        made = Process()
        made.fds = self.fds if shares else {fd: calls | {call} for fd, calls in self.fds.items()}
        made.cwd = self.cwd if shares else self.cwd | ({call} if self.cwd else set())
        made.facts = defaultdict(set, {name: calls | {call} for name, calls in self.facts.items()})
        made.facts["process"] = self.facts["process"] | {call}
        for name in ("user", "group", "caps"):
            made.facts[name] = {call}
        made.closed = self.closed if shares else dict(self.closed)
        made.on_exec = self.on_exec if shares else set(self.on_exec)
        made.born = self.born | {call}
        return made


def lines(text):
    """(pid, call, arguments, result) of each call that succeeded, in the order in which they ended."""
    begun = {}
    for line in text.splitlines():
        half = UNFINISHED.match(line)
        if half:
            begun[half[1]] = line[: line.rindex(" <unfinished")]
            continue
        rest = RESUMED.match(line)
        if rest and rest[1] in begun:
            line = begun.pop(rest[1]) + rest[2]
        match = LINE.match(line)
        if match and match[4] != "?":
            failed = match[4] == "-1" and "EINPROGRESS" not in match[5]
            yield match[1], match[2], match[3], int(match[4]), failed


def number(text):
    match = re.match(r"-?\d+", text.strip())
    return int(match[0]) if match else None


class Trace:
    """Follows the tables of descriptors of all processes of a scenario."""

    def __init__(self, scenario):
        self.scenario, self.processes, self.ways = scenario, {}, defaultdict(set)

    def process(self, pid):
        return self.processes.setdefault(pid, Process())

    def put(self, process, fd, calls):
        # A number that was closed before: what is put there now takes the place of the old value.
        process.fds[fd] = calls | process.born

    def play(self, text):
        for pid, call, arguments, result, failed in lines(text):
            process, given = self.process(pid), [part.strip() for part in arguments.split(",")]
            if self.marked(call, arguments, result):
                self.look(process, call, given, result)
            if not failed:
                self.step(process, pid, call, arguments, given, result)
            if call in ("dup", "dup2", "dup3", "accept", "accept4") and self.marked(call, arguments, result):
                self.ways["fd"] |= process.fds.get(result, set()) - {call}

    def step(self, process, pid, call, arguments, given, result):
        fd = number(given[0]) if given and given[0] else None
        if call in ("clone", "clone3", "fork", "vfork") and result > 0:
            self.processes[str(result)] = process.child(call, "CLONE_FILES" in arguments)
        elif call in ("execve", "execveat"):
            # The event of an execution carries what the process is, and its ids and capabilities.
            for name in ("process", "user", "group", "caps"):
                process.facts[name] = {call}
            process.born = set()
            for one in process.on_exec:
                process.fds.pop(one, None)
        elif call in ("open", "openat", "openat2"):
            history = {call}
            if call != "open" and fd is not None and '"/' not in arguments.split(",")[1]:
                history |= process.fds.get(fd, set())
            self.put(process, result, history)
        elif call in MAKERS:
            self.put(process, result, {call})
        elif call in ("pipe", "pipe2", "socketpair"):
            for text in re.findall(r"\[(\d+), (\d+)\]", arguments):
                for one in text:
                    self.put(process, int(one), {call})
        elif call in ("dup", "dup2", "dup3") or call == "fcntl" and "F_DUPFD" in arguments:
            self.put(process, result, process.fds.get(fd, set()) | {call})
        elif call in ("accept", "accept4"):
            self.put(process, result, {call})
        elif call in ("bind", "connect") and fd in process.fds:
            process.fds[fd] = process.fds[fd] | {call}
        elif call in ("sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg") and fd in process.fds:
            if "sa_family" in arguments:
                process.fds[fd] = process.fds[fd] | {call}
            for received in re.findall(r"SCM_RIGHTS, cmsg_data=\[([\d, ]+)\]", arguments if call.startswith("recv") else ""):
                for one in received.split(","):
                    self.put(process, int(one), process.fds[fd] | {call})
        elif call == "pidfd_getfd":
            self.put(process, result, {call, "pidfd_open"})
        elif call == "close":
            process.closed[fd] = {call}
            process.fds.pop(fd, None)
        elif call == "close_range":
            for one in [one for one in process.fds if fd <= one <= (number(given[1]) or 1 << 30)]:
                process.closed[one] = {call}
                if "CLOEXEC" in arguments:
                    process.on_exec.add(one)
                else:
                    process.fds.pop(one, None)
        elif call == "chdir":
            process.cwd = {call} | (process.cwd if '"/' not in arguments else set())
        elif call == "fchdir":
            process.cwd = {call} | process.fds.get(fd, set())
        elif call in IDS and "NULL)" not in arguments + ")":
            process.facts[IDS[call]].add("prlimit" if call == "prlimit64" else call)
        elif call in IDS and call != "prlimit64":
            process.facts[IDS[call]].add(call)

    def marked(self, call, arguments, result):
        """Whether this is the event that the scenario's marker describes."""
        text, ident, port = self.scenario["w"], self.scenario["id"], self.scenario["n"]
        named = re.search(r"evt\.type(?:=(\w+)| in \(([^)]*)\))", text)
        if call not in (named[1] or named[2]).replace(" ", "").split(","):
            return False
        if call in ("accept", "accept4"):
            return True
        if "evt.arg.size=" in text:
            return result == port - 30000 or call == "sendmmsg" and str(port) in arguments
        if "evt.rawres=" in text:
            return result == port
        if "t_@I@" in text:
            return re.search(r't_%s(_n)?"' % re.escape(ident), arguments) is not None
        return str(port) in arguments or str(port - 20000) in arguments

    def look(self, process, call, given, result):
        """Note the histories that the marked event reads."""
        fd = number(given[0]) if given[0] else None
        if call in HANDLE:
            for place in range(len(given) - 1):
                if given[place + 1].startswith('"') and not given[place + 1].startswith('"/'):
                    handle = number(given[place])
                    if handle is not None:
                        self.ways["path"] |= process.fds.get(handle, set())
        elif fd is not None and call != "setuid":
            self.ways["fd"] |= process.fds.get(fd) or process.closed.get(fd, set())
        self.ways["cwd"] |= process.cwd
        if call in ("execve", "execveat"):
            self.ways["stdio"] |= process.fds.get(0, set())
        for name, calls in process.facts.items():
            self.ways[name] |= calls
