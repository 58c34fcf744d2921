# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of system calls in Falco, per release: tables and the two name spaces. Pure data and set
arithmetic.

The kernel's names and Falco's differ. A rule's evt.type, base_syscalls.custom_set and every line that Falco
prints hold *event names* (pread, procexit); what is switched on in the kernel are system calls and
tracepoints (pread64, sched_process_exit). Most names are the same in both; one event may stand for several
calls (accept is accept and accept4).

The tables are those of Falco 0.44.1 and its drivers; what came or went between 0.35 and 0.44 stands beside
them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Release

# Kernel names that have an event of their own.
WITH_EVENT = frozenset(
    """
    _llseek accept accept4 access bind bpf brk capset chdir chmod chown chroot clone clone3 close close_range
    connect copy_file_range creat delete_module dup dup2 dup3 epoll_create epoll_create1 epoll_wait eventfd
    eventfd2 execve execveat fchdir fchmod fchmodat fchown fchownat fcntl fcntl64 finit_module flock fork
    fsconfig fstat fstat64 futex getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid
    getgid32 getpeername getresgid getresgid32 getresuid getresuid32 getrlimit getsockname getsockopt getuid
    getuid32 init_module inotify_init inotify_init1 io_uring_enter io_uring_register io_uring_setup ioctl
    keyctl kill lchown link linkat listen lseek lstat lstat64 memfd_create mkdir mkdirat mknod mknodat mlock
    mlock2 mlockall mmap mmap2 mount mprotect munlock munlockall munmap nanosleep newfstatat open
    open_by_handle_at openat openat2 page_fault_kernel page_fault_user pidfd_getfd pidfd_open pipe pipe2 poll
    ppoll prctl pread64 preadv prlimit64 process_vm_readv process_vm_writev ptrace pwrite64 pwritev quotactl
    read readv recv recvfrom recvmmsg recvmsg rename renameat renameat2 rmdir sched_process_exit sched_switch
    seccomp select semctl semget semop send sendfile sendfile64 sendmmsg sendmsg sendto setgid setgid32 setns
    setpgid setregid setresgid setresgid32 setresuid setresuid32 setreuid setrlimit setsid setsockopt setuid
    setuid32 shutdown signal_deliver signalfd signalfd4 socket socketpair splice stat stat64 symlink symlinkat
    tgkill timerfd_create tkill ugetrlimit umount umount2 unlink unlinkat unshare userfaultfd vfork write
    writev
""".split()
)

# Kernel names without one: each is selected and printed by its own name, but carries only its number.
GENERIC = frozenset(
    """
    _newselect _sysctl acct add_key adjtimex alarm arch_prctl bdflush cachestat capget clock_adjtime
    clock_getres clock_gettime clock_nanosleep clock_settime create_module epoll_ctl epoll_ctl_old epoll_pwait
    epoll_pwait2 epoll_wait_old exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_init
    fanotify_mark fchmodat2 fdatasync fgetxattr file_getattr file_setattr flistxattr fremovexattr fsetxattr
    fsmount fsopen fspick fstatat64 fstatfs fstatfs64 fsync ftruncate futex_requeue futex_wait futex_waitv
    futex_wake futimesat get_kernel_syms get_mempolicy get_robust_list get_thread_area getcpu getgroups
    getitimer getpgid getpgrp getpid getpmsg getppid getpriority getrandom getrusage getsid gettid
    gettimeofday getxattr getxattrat idle inotify_add_watch inotify_rm_watch io_cancel io_destroy io_getevents
    io_pgetevents io_setup io_submit ioperm iopl ioprio_get ioprio_set ipc kcmp kexec_file_load kexec_load
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lgetxattr listmount listns listxattr
    listxattrat llistxattr lookup_dcookie lremovexattr lsetxattr lsm_get_self_attr lsm_list_modules
    lsm_set_self_attr madvise map_shadow_stack mbind membarrier memfd_secret migrate_pages mincore modify_ldt
    mount_setattr move_mount move_pages mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink
    mremap mseal msgctl msgget msgrcv msgsnd msync multiplexer name_to_handle_at nfsservctl nice oldfstat
    oldlstat oldolduname oldstat olduname open_tree open_tree_attr pause pciconfig_iobase pciconfig_read
    pciconfig_write perf_event_open personality pidfd_send_signal pivot_root pkey_alloc pkey_free
    pkey_mprotect preadv2 process_madvise process_mrelease pselect6 pwritev2 query_module quotactl_fd
    readahead readdir readlink readlinkat reboot remap_file_pages removexattr removexattrat request_key
    restart_syscall riscv_flush_icache riscv_hwprobe rseq rseq_slice_yield rt_sigaction rt_sigpending
    rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo rtas
    s390_guarded_storage s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr s390_sthyi
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    sched_yield semtimedop set_mempolicy set_mempolicy_home_node set_robust_list set_thread_area
    set_tid_address setdomainname setfsgid setfsuid setgroups sethostname setitimer setpriority settimeofday
    setxattr setxattrat sgetmask shmat shmctl shmdt shmget sigaction sigaltstack signal sigpending sigprocmask
    sigreturn sigsuspend socketcall spu_create spu_run ssetmask statfs statfs64 statmount statx stime
    subpage_prot swapcontext swapoff swapon switch_endian sync sync_file_range sync_file_range2 syncfs
    sys_debug_setcontext sysfs sysinfo syslog tee time timer_create timer_delete timer_getoverrun
    timer_gettime timer_settime timerfd timerfd_gettime timerfd_settime times truncate umask uname uprobe
    uretprobe uselib ustat utime utimensat utimes vhangup vm86 vmsplice wait4 waitid waitpid
""".split()
)

# Event names that stand for other, or for more, kernel names than themselves.
EVENT_TO_KERNEL = {
    "accept": ("accept", "accept4"),
    "fcntl": ("fcntl", "fcntl64"),
    "getegid": ("getegid", "getegid32"),
    "geteuid": ("geteuid", "geteuid32"),
    "getgid": ("getgid", "getgid32"),
    "getresgid": ("getresgid", "getresgid32"),
    "getresuid": ("getresuid", "getresuid32"),
    "getrlimit": ("getrlimit", "ugetrlimit"),
    "getuid": ("getuid", "getuid32"),
    "llseek": ("_llseek",),
    "page_fault": ("page_fault_kernel", "page_fault_user"),
    "pread": ("pread64",),
    "prlimit": ("prlimit64",),
    "procexit": ("sched_process_exit",),
    "pwrite": ("pwrite64",),
    "sendfile": ("sendfile", "sendfile64"),
    "setgid": ("setgid", "setgid32"),
    "setresgid": ("setresgid", "setresgid32"),
    "setresuid": ("setresuid", "setresuid32"),
    "setuid": ("setuid", "setuid32"),
    "signaldeliver": ("signal_deliver",),
    "switch": ("sched_switch",),
}
# Kernel names that no rule can select by: 'pread64' in evt.type loads and then matches nothing.
KERNEL_ONLY = {
    kernel: event
    for event, kernels in EVENT_TO_KERNEL.items()
    for kernel in kernels
    if kernel != event and kernel != "accept4"
}

# The release that brought a name; all others were there in 0.35.
SINCE = {
    (0, 36): "cachestat",
    (0, 37): (
        "fchmodat2 futex_requeue futex_wait futex_wake map_shadow_stack multiplexer oldfstat oldlstat "
        "oldolduname oldstat "
        "pciconfig_iobase pciconfig_read pciconfig_write riscv_flush_icache riscv_hwprobe rtas spu_create "
        "spu_run subpage_prot "
        "swapcontext switch_endian sync_file_range2 sys_debug_setcontext vm86"
    ),
    (0, 38): "listmount lsm_get_self_attr lsm_list_modules lsm_set_self_attr statmount",
    (0, 39): "mseal uretprobe",
    (0, 40): "getxattrat listxattrat removexattrat setxattrat",
    (0, 41): "open_tree_attr",
    (0, 42): "file_getattr file_setattr",
    (0, 44): "listns rseq_slice_yield uprobe",
}

# What Falco collects for its own state whatever the rules ask for (kernel names).
STATE = frozenset(
    """
    accept accept4 bind capset chdir chroot clone clone3 close close_range connect creat dup dup2 dup3
    epoll_create epoll_create1 eventfd eventfd2 execve execveat fchdir fcntl fcntl64 fork getsockopt
    inotify_init inotify_init1 io_uring_setup memfd_create mount open open_by_handle_at openat openat2
    pidfd_getfd pidfd_open pipe pipe2 prctl prlimit64 recvfrom recvmmsg recvmsg sched_process_exit sendmmsg
    sendmsg sendto setgid setgid32 setregid setresgid setresgid32 setresuid setresuid32 setreuid setrlimit
    setsid setuid setuid32 shutdown signalfd signalfd4 socket socketpair timerfd_create umount umount2
    userfaultfd vfork
""".split()
)
STATE_SINCE = {
    "memfd_create": (0, 36),
    "pidfd_getfd": (0, 36),
    "pidfd_open": (0, 36),
    "setregid": (0, 39),
    "setreuid": (0, 39),
    "recvmmsg": (0, 40),
    "sendmmsg": (0, 40),
    "close_range": (0, 44),
}
STATE_UNTIL = {"setpgid": (0, 42)}

# Families, by which the repair decides (kernel names).
NETWORK = frozenset(
    """
    accept accept4 bind connect getpeername getsockname getsockopt listen setsockopt shutdown socket
""".split()
)
FILE = frozenset(
    """
    _llseek access chdir chmod chown copy_file_range creat fchdir fchmod fchmodat fchown fchownat flock fstat
    fstat64 getcwd getdents getdents64 lchown link linkat lseek lstat lstat64 mkdir mkdirat mount newfstatat
    open open_by_handle_at openat openat2 rename renameat renameat2 rmdir stat stat64 symlink symlinkat umount
    umount2 unlink unlinkat userfaultfd
""".split()
)
IO = frozenset(
    """
    pread64 preadv pwrite64 pwritev read readv recv recvfrom recvmmsg recvmsg send sendfile sendfile64
    sendmmsg sendmsg sendto write writev
""".split()
)
IO_OTHER = frozenset(
    """
    close close_range dup dup2 dup3 fcntl fcntl64 io_uring_enter io_uring_register io_uring_setup ioctl splice
""".split()
)
FAMILY_SINCE = {"newfstatat": (0, 38), "close_range": (0, 44)}

# What base_syscalls.repair selects in any case (kernel names); the same in every release.
REPAIR = frozenset(
    """
    capset chdir chroot clone clone3 execve execveat fchdir fork prctl sched_process_exit setgid setgid32
    setpgid setresgid setresgid32 setresuid setresuid32 setsid setuid setuid32 vfork
""".split()
)
# Legal in evt.type, but no system calls: they cost nothing and cannot be selected.
META = frozenset(
    """
    asyncevent container cpu_hotplug drop groupadded groupdeleted infra k8s mesos notification pluginevent
    procinfo scapevent task task_file_anon_inode task_file_directory task_file_memfd task_file_pipe
    task_file_regular task_file_socket_inet task_file_socket_inet6 task_file_socket_netlink
    task_file_socket_unix tracer useradded userdeleted
""".split()
)


class Names:
    """The names of one span of releases. Sets of kernel names, unless an attribute says events."""

    def __init__(self, minor: tuple[int, ...]) -> None:
        absent = {name for since, names in SINCE.items() if since > minor for name in names.split()}
        self.kernel = (WITH_EVENT | GENERIC) - absent
        self.events = (self.kernel - set(KERNEL_ONLY)) | set(EVENT_TO_KERNEL)
        later = {name for name, since in STATE_SINCE.items() if since > minor}
        self.state = (STATE - later) | {name for name, until in STATE_UNTIL.items() if minor < until}
        self.ignored = IO - self.state
        later = {name for name, since in FAMILY_SINCE.items() if since > minor}
        self.network = NETWORK - later
        self.files = (FILE | IO | IO_OTHER) - later
        self.meta = (
            META if minor >= (0, 44) else frozenset(name for name in META if not name.startswith("task"))
        )

    def kernel_of(self, events: Iterable[str]) -> set[str]:
        """Kernel names behind event names; what is no event name stands for nothing."""
        found: set[str] = set()
        for name in events:
            if name in self.events:
                found.update(EVENT_TO_KERNEL.get(name, (name,)))
        return found & self.kernel

    def kernel_of_printed(self, printed: Iterable[str]) -> set[str]:
        """Kernel names behind a set that Falco printed, such as the final set of a dry run.

        In such a set accept4 has a name of its own: where it is not printed, accept stands for accept alone.
        Where both are printed, accept4 alone cannot be told from accept with accept4, and both are taken.
        """
        printed = set(printed)
        return self.kernel_of(printed) - ({"accept4"} - printed)

    def events_of(self, kernel: Iterable[str]) -> set[str]:
        """Event names as Falco prints them for a set of kernel names: accept4 alone is printed as accept,
        accept4."""
        found: set[str] = set()
        for name in kernel:
            if name in self.kernel:
                found.add(KERNEL_ONLY.get(name, name))
        if "accept4" in found:
            found.add("accept")
        return found

    def exact_events(self, kernel: Iterable[str]) -> set[str]:
        """Event names that stand for these kernel names and no more, as far as names can say it: accept4
        alone is accept4."""
        kernel = set(kernel) & self.kernel
        found = {name for name in self.events_of(kernel) if self.kernel_of({name}) <= kernel}
        return found | self.events_of(kernel - self.kernel_of(found))


@functools.cache
def _names(minor: tuple[int, ...]) -> Names:
    return Names(minor)


def names_for(release: Release | str) -> Names:
    """The Names of a Release or of a version string. Raises releases.UnsupportedRelease before 0.35, which
    knew no selection."""
    if not isinstance(release, releases.Release):
        release = releases.release_for(release)
    if not release.since(0, 35):
        raise releases.UnsupportedRelease(
            "Falco %s cannot choose system calls (base_syscalls came with 0.35)" % release
        )
    return _names(release.table[:2])


def known_since(name: str) -> str | None:
    """'0.44' for a name that is younger than 0.35 and kernel's, else None."""
    for since, names in SINCE.items():
        if name in names.split():
            return "%d.%d" % since
    return None
