# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of system calls as Falco's libs 0.25.4 know them.

"Codes" are kernel names; "event names" are what Falco accepts in custom_set and prints.
"""

ALL_CODES = frozenset("""
    _llseek _newselect _sysctl accept accept4 access acct add_key adjtimex alarm arch_prctl bdflush bind bpf brk
    cachestat capget capset chdir chmod chown chroot clock_adjtime clock_getres clock_gettime clock_nanosleep
    clock_settime clone clone3 close close_range connect copy_file_range creat create_module delete_module dup dup2
    dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_init
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr
    file_setattr finit_module flistxattr flock fork fremovexattr fsconfig fsetxattr fsmount fsopen fspick fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate futex futex_requeue futex_wait futex_waitv futex_wake
    futimesat get_kernel_syms get_mempolicy get_robust_list get_thread_area getcpu getcwd getdents getdents64
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getitimer getpeername getpgid getpgrp getpid
    getpmsg getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid
    getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat idle init_module
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
    io_setup io_submit io_uring_enter io_uring_register io_uring_setup ioctl ioperm iopl ioprio_get ioprio_set ipc
    kcmp kexec_file_load kexec_load keyctl kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
    lchown lgetxattr link linkat listen listmount listns listxattr listxattrat llistxattr lookup_dcookie
    lremovexattr lseek lsetxattr lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat lstat64 madvise
    map_shadow_stack mbind membarrier memfd_create memfd_secret migrate_pages mincore mkdir mkdirat mknod mknodat
    mlock mlock2 mlockall mmap mmap2 modify_ldt mount mount_setattr move_mount move_pages mprotect mq_getsetattr
    mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync
    multiplexer munlock munlockall munmap name_to_handle_at nanosleep newfstatat nfsservctl nice oldfstat oldlstat
    oldolduname oldstat olduname open open_by_handle_at open_tree open_tree_attr openat openat2 page_fault_kernel
    page_fault_user pause pciconfig_iobase pciconfig_read pciconfig_write perf_event_open personality pidfd_getfd
    pidfd_open pidfd_send_signal pipe pipe2 pivot_root pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64
    preadv preadv2 prlimit64 process_madvise process_mrelease process_vm_readv process_vm_writev pselect6 ptrace
    pwrite64 pwritev pwritev2 query_module quotactl quotactl_fd read readahead readdir readlink readlinkat readv
    reboot recv recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2
    request_key restart_syscall riscv_flush_icache riscv_hwprobe rmdir rseq rseq_slice_yield rt_sigaction
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo rtas
    s390_guarded_storage s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr s390_sthyi sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_process_exit
    sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_switch sched_yield
    seccomp select semctl semget semop semtimedop send sendfile sendfile64 sendmmsg sendmsg sendto set_mempolicy
    set_mempolicy_home_node set_robust_list set_thread_area set_tid_address setdomainname setfsgid setfsuid setgid
    setgid32 setgroups sethostname setitimer setns setpgid setpriority setregid setresgid setresgid32 setresuid
    setresuid32 setreuid setrlimit setsid setsockopt settimeofday setuid setuid32 setxattr setxattrat sgetmask shmat
    shmctl shmdt shmget shutdown sigaction sigaltstack signal signal_deliver signalfd signalfd4 sigpending
    sigprocmask sigreturn sigsuspend socket socketcall socketpair splice spu_create spu_run ssetmask stat stat64
    statfs statfs64 statmount statx stime subpage_prot swapcontext swapoff swapon switch_endian symlink symlinkat
    sync sync_file_range sync_file_range2 syncfs sys_debug_setcontext sysfs sysinfo syslog tee tgkill time
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd timerfd_create timerfd_gettime
    timerfd_settime times tkill truncate ugetrlimit umask umount umount2 uname unlink unlinkat unshare uprobe
    uretprobe uselib userfaultfd ustat utime utimensat utimes vfork vhangup vm86 vmsplice wait4 waitid waitpid write
    writev
""".split())

STATE_CODES = frozenset("""
    accept accept4 bind capset chdir chroot clone clone3 close close_range connect creat dup dup2 dup3 epoll_create
    epoll_create1 eventfd eventfd2 execve execveat fchdir fcntl fcntl64 fork getsockopt inotify_init inotify_init1
    io_uring_setup memfd_create mount open open_by_handle_at openat openat2 pidfd_getfd pidfd_open pipe pipe2 prctl
    prlimit64 recvfrom recvmmsg recvmsg sched_process_exit sendmmsg sendmsg sendto setgid setgid32 setregid
    setresgid setresgid32 setresuid setresuid32 setreuid setrlimit setsid setuid setuid32 shutdown signalfd
    signalfd4 socket socketpair timerfd_create umount umount2 userfaultfd vfork
""".split())

REPAIR_CODES = frozenset("""
    capset chdir chroot clone clone3 execve execveat fchdir fork prctl sched_process_exit setgid setgid32 setpgid
    setresgid setresgid32 setresuid setresuid32 setsid setuid setuid32 vfork
""".split())

IO_CODES = frozenset("""
    pread64 preadv pwrite64 pwritev read readv recv send sendfile sendfile64 write writev
""".split())

NETWORK_CODES = frozenset("""
    accept accept4 bind connect getpeername getsockname getsockopt listen setsockopt shutdown socket
""".split())

FD_CODES = frozenset("""
    _llseek access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 fchdir fchmod fchmodat
    fchown fchownat fcntl fcntl64 flock fstat fstat64 getcwd getdents getdents64 io_uring_enter io_uring_register
    io_uring_setup ioctl lchown link linkat lseek lstat lstat64 mkdir mkdirat mount newfstatat open
    open_by_handle_at openat openat2 pread64 preadv pwrite64 pwritev read readv recv recvfrom recvmmsg recvmsg
    rename renameat renameat2 rmdir send sendfile sendfile64 sendmmsg sendmsg sendto splice stat stat64 symlink
    symlinkat umount umount2 unlink unlinkat userfaultfd write writev
""".split())

META_EVENTS = frozenset("""
    drop scapevent container procinfo cpu_hotplug k8s tracer mesos notification infra useradded userdeleted
    groupadded groupdeleted asyncevent pluginevent
""".split())

# Event names that are not the name of their one code.
NAME_TO_CODES = {
    "accept": ("accept", "accept4",),
    "fcntl": ("fcntl", "fcntl64",),
    "getegid": ("getegid", "getegid32",),
    "geteuid": ("geteuid", "geteuid32",),
    "getgid": ("getgid", "getgid32",),
    "getresgid": ("getresgid", "getresgid32",),
    "getresuid": ("getresuid", "getresuid32",),
    "getrlimit": ("getrlimit", "ugetrlimit",),
    "getuid": ("getuid", "getuid32",),
    "llseek": ("_llseek",),
    "page_fault": ("page_fault_kernel", "page_fault_user",),
    "pread": ("pread64",),
    "prlimit": ("prlimit64",),
    "procexit": ("sched_process_exit",),
    "pwrite": ("pwrite64",),
    "sendfile": ("sendfile", "sendfile64",),
    "setgid": ("setgid", "setgid32",),
    "setresgid": ("setresgid", "setresgid32",),
    "setresuid": ("setresuid", "setresuid32",),
    "setuid": ("setuid", "setuid32",),
    "signaldeliver": ("signal_deliver",),
    "switch": ("sched_switch",),
}

_HIDDEN = frozenset(code for codes in NAME_TO_CODES.values() for code in codes) - {"accept", "accept4"}

LEGAL_NAMES = (ALL_CODES - _HIDDEN) | frozenset(NAME_TO_CODES)

_CODE_TO_NAMES = {}
for _name in LEGAL_NAMES:
    for _code in NAME_TO_CODES.get(_name, (_name,)):
        _CODE_TO_NAMES.setdefault(_code, []).append(_name)


def to_codes(names):
    """Codes behind event names; names that Falco doesn't know are left out."""
    codes = set()
    for name in names:
        if name in LEGAL_NAMES:
            codes.update(NAME_TO_CODES.get(name, (name,)))
    return codes


def to_names(codes):
    """Event names under which Falco prints codes."""
    names = set()
    for code in codes:
        names.update(_CODE_TO_NAMES[code])
    return names
