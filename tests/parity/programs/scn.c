/* Copyright (c) 2026 falcotune contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
/* One small program, one action per invocation: scn ID.
 * Every action is harmless: it works in $PARITY_ROOT/ID and on the loopback interface only.
 * NUM ($2) is the number that marks the observed call of this scenario. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/openat2.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *ID, *ROOT;
static int NUM;
static char D[512], T[128];          /* scratch directory of the scenario, target name */
static char self[512];

static void die(const char *w) { fprintf(stderr, "%s: %s: %s\n", ID, w, strerror(errno)); exit(3); }
static int ck(int r, const char *w) { if (r < 0) die(w); return r; }
#define C(x) ck((x), #x)

static const char *P(const char *rel) {
	static char b[8][768]; static int i; i = (i + 1) % 8;
	snprintf(b[i], sizeof b[i], "%s/%s", D, rel); return b[i];
}
static int bind_(int s, const void *a, socklen_t l) { int one = 1; setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one); return bind(s, a, l); }
#define bind(s, a, l) bind_(s, (const void *)(a), l)
/* ---- the observed calls ---- */
static int see_open(int dirfd, const char *pre) {         /* openat(dirfd, pre + T) */
	char n[512]; snprintf(n, sizeof n, "%s%s", pre, T);
	return C(syscall(SYS_openat, dirfd, n, O_RDONLY));
}
static void see_fd(int fd) { syscall(SYS_fchown, fd, -1, NUM); }
static void see_dup(int fd) { C(syscall(SYS_dup2, fd, NUM)); }
static void see_abs(void) { C(syscall(SYS_openat, AT_FDCWD, P(T), O_RDONLY)); }

static int dir(const char *rel) { return C(syscall(SYS_openat, AT_FDCWD, P(rel), O_RDONLY | O_DIRECTORY)); }
static int filefd(const char *rel) { return C(syscall(SYS_openat, AT_FDCWD, P(rel), O_RDWR)); }
static int rawfork(void) { return syscall(SYS_fork); }
static void reap(pid_t p) { int s; while (waitpid(p, &s, 0) < 0 && errno == EINTR); }

static void nap(int ms) { poll(0, 0, ms); }
static void stay(void) { nap(1500); } /* who receives an fd lives on: Falco looks it up in /proc */
/* ---- fd passing ---- */
static void send_fd(int s, int fd) {
	char c = 'x', cb[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = sizeof cb};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_RIGHTS; h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof fd);
	C(sendmsg(s, &m, 0));
}
static int recv_fd(int s, int many) {
	char c, cb[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec v = {&c, 1};
	struct mmsghdr mm = {.msg_hdr = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = sizeof cb}};
	if (many) C(syscall(SYS_recvmmsg, s, &mm, 1, 0, NULL));
	else C(recvmsg(s, &mm.msg_hdr, 0));
	struct cmsghdr *h = CMSG_FIRSTHDR(&mm.msg_hdr); int fd;
	if (!h) { errno = EPROTO; die("no fd came"); }
	memcpy(&fd, CMSG_DATA(h), sizeof fd); atexit(stay); return fd;
}
/* a child that opens `rel` and passes the descriptor */
static int scm(const char *rel, int flags, int many) {
	int sv[2]; C(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	pid_t p = fork();
	if (!p) { close(sv[0]); int d = C(syscall(SYS_openat, AT_FDCWD, P(rel), flags)); send_fd(sv[1], d); char c; read(sv[1], &c, 1); _exit(0); }
	close(sv[1]); int fd = recv_fd(sv[0], many); close(sv[0]); reap(p); return fd;
}
static int getfd_from(const char *rel, int flags) {
	int pp[2]; C(pipe(pp));
	pid_t p = fork();
	if (!p) { int d = C(syscall(SYS_openat, AT_FDCWD, P(rel), flags)); write(pp[1], &d, sizeof d); pause(); _exit(0); }
	int d; read(pp[0], &d, sizeof d);
	int pf = C(syscall(SYS_pidfd_open, p, 0)); int fd = C(syscall(SYS_pidfd_getfd, pf, d, 0));
	kill(p, SIGKILL); reap(p); return fd;
}
static int by_handle(const char *rel, int flags) {
	struct { struct file_handle h; char b[128]; } fh; fh.h.handle_bytes = 128; int mid;
	C(name_to_handle_at(AT_FDCWD, P(rel), &fh.h, &mid, 0));
	int mfd = C(syscall(SYS_openat, AT_FDCWD, P("."), O_RDONLY | O_DIRECTORY));
	int fd = C(open_by_handle_at(mfd, &fh.h, flags)); return fd;
}
/* ---- sockets ---- */
static struct sockaddr_in A4(int port) { struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)}; a.sin_addr.s_addr = htonl(INADDR_LOOPBACK); return a; }
static struct sockaddr_in6 A6(int port) { struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT}; return a; }
static int srv(int port) {
	int s = C(socket(AF_INET, SOCK_STREAM, 0)), one = 1; setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	struct sockaddr_in a = A4(port); C(bind(s, (void *)&a, sizeof a)); C(listen(s, 5)); return s;
}
static int cli(int port, int fl) {
	int s = C(socket(AF_INET, SOCK_STREAM | fl, 0)); struct sockaddr_in a = A4(port);
	if (connect(s, (void *)&a, sizeof a) < 0 && errno != EINPROGRESS) die("connect"); return s;
}
/* a client process that connects to port and waits for the end */
static pid_t client(int port) {
	pid_t p = fork();
	if (!p) { int s = cli(port, 0); char c; read(s, &c, 1); _exit(0); }
	return p;
}
static pid_t server(int port) {            /* a server process: listens before this returns */
	int pp[2]; C(pipe(pp)); pid_t p = fork();
	if (!p) { int s = srv(port); write(pp[1], "x", 1); int c = accept(s, 0, 0); char b[4096]; read(c, b, sizeof b); _exit(0); }
	char c; read(pp[0], &c, 1); close(pp[0]); close(pp[1]); return p;
}
static pid_t udp_server(int port, int reply, int len) {
	int pp[2]; C(pipe(pp)); pid_t p = fork();
	if (!p) {
		int s = socket(AF_INET, SOCK_DGRAM, 0); struct sockaddr_in a = A4(port), f; socklen_t l = sizeof f; char b[9000] = "y";
		C(bind(s, (void *)&a, sizeof a)); write(pp[1], "x", 1);
		recvfrom(s, b, sizeof b, 0, (void *)&f, &l); if (reply) sendto(s, b, len, 0, (void *)&f, l); _exit(0);
	}
	char c; read(pp[0], &c, 1); close(pp[0]); close(pp[1]); return p;
}
static int accepted(int four) {
	int s = srv(NUM); pid_t p = client(NUM); (void)p;
	int c = four ? C(accept4(s, 0, 0, SOCK_CLOEXEC)) : C(syscall(SYS_accept, s, 0, 0)); return c;
}
static void fill(struct msghdr *m, struct iovec *v, void *b, int n, void *a, int al) {
	memset(m, 0, sizeof *m); v->iov_base = b; v->iov_len = n; m->msg_iov = v; m->msg_iovlen = 1; m->msg_name = a; m->msg_namelen = al;
}
/* ---- processes ---- */
static char stack1[1 << 16];
static int thr_chdir(void *a) { (void)a; C(chdir(P("d"))); syscall(SYS_exit, 0); return 0; }
static volatile int shared_fd = -1;
static int thr_open(void *a) { (void)a; shared_fd = syscall(SYS_openat, AT_FDCWD, P("d"), O_RDONLY | O_DIRECTORY); syscall(SYS_exit, 0); return 0; }
static pid_t clone3_(uint64_t flags, pid_t want) {
	struct clone_args a = {.flags = flags, .exit_signal = SIGCHLD};
	pid_t t = want; if (want) { a.set_tid = (uint64_t)(uintptr_t)&t; a.set_tid_size = 1; }
	return syscall(SYS_clone3, &a, sizeof a);
}
static void run_at(const char *path, const char *sub, const char *num) { execl(path, path, sub, num ? num : "0", (char *)0); die("execl"); }
static void again(const char *step) { char n[16]; snprintf(n, sizeof n, "%d", NUM); setenv("STEP", step, 1); execl(self, self, ID, n, (char *)0); die("execl self"); }
static void drop_all(void) {
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0}; struct __user_cap_data_struct d[2] = {{0}};
	C(syscall(SYS_capset, &h, d));
}
static int is(const char *s) { return !strcmp(ID, s); }


int main(int argc, char **argv) {
	if (argc < 2) return 2;
	ID = argv[1]; NUM = argc > 2 ? atoi(argv[2]) : 0; ROOT = getenv("PARITY_ROOT"); if (!ROOT) return 2;
	snprintf(D, sizeof D, "%s/%s", ROOT, ID); snprintf(T, sizeof T, "t_%s", ID); snprintf(self, sizeof self, "%s/bin/scn", ROOT);
	const char *step = getenv("STEP"); if (!step) step = "";
	signal(SIGALRM, SIG_DFL); alarm(8);

	/* == a directory handle, then openat relative to it == */
	if (0) ;
	else if (is("dir_openat")) see_open(dir("d"), "");
	else if (is("dir_open")) see_open(C(syscall(SYS_open, P("d"), O_RDONLY | O_DIRECTORY)), "");
	else if (is("dir_nested")) see_open(C(syscall(SYS_openat, dir("."), "d", O_RDONLY | O_DIRECTORY)), "");
	else if (is("dir_dup")) see_open(C(syscall(SYS_dup, dir("d"))), "");
	else if (is("dir_dup2")) see_open(C(syscall(SYS_dup2, dir("d"), 44)), "");
	else if (is("dir_dupfd")) see_open(C(fcntl(dir("d"), F_DUPFD, 46)), "");
	else if (is("dir_dupfd_cloexec")) see_open(C(fcntl(dir("d"), F_DUPFD_CLOEXEC, 3)), "");
	else if (is("dir_scm")) see_open(scm("d", O_RDONLY | O_DIRECTORY, 0), "");
	else if (is("dir_pidfd_getfd")) see_open(getfd_from("d", O_RDONLY | O_DIRECTORY), "");
	else if (is("dir_by_handle")) see_open(by_handle("d", O_RDONLY | O_DIRECTORY), "");
	else if (is("dir_fork")) { int d = dir("d"); pid_t p = rawfork(); if (!p) { see_open(d, ""); _exit(0); } reap(p); }
	else if (is("dir_clone")) { int d = dir("d"); pid_t p = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); if (!p) { see_open(d, ""); _exit(0); } reap(p); }
	else if (is("dir_clone3")) { int d = dir("d"); pid_t p = C(clone3_(0, 0)); if (!p) { see_open(d, ""); _exit(0); } reap(p); }
	else if (is("dir_exec")) { if (!*step) { C(dup2(dir("d"), 47)); again("2"); } see_open(47, ""); }
	else if (is("dir_thread")) { C(clone(thr_open, stack1 + sizeof stack1, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, 0)); while (shared_fd < 0) nap(2); see_open(shared_fd, ""); }
	/* == working directory == */
	else if (is("cwd_chdir")) { C(chdir(P("d"))); see_open(AT_FDCWD, ""); }
	else if (is("cwd_fchdir")) { C(fchdir(dir("d"))); see_open(AT_FDCWD, ""); }
	else if (is("cwd_fchdir_dupfd")) { C(fchdir(C(fcntl(dir("d"), F_DUPFD_CLOEXEC, 3)))); see_open(AT_FDCWD, ""); }
	else if (is("cwd_fork")) { C(chdir(P("d"))); pid_t p = rawfork(); if (!p) { see_open(AT_FDCWD, ""); _exit(0); } reap(p); }
	else if (is("cwd_exec")) { if (!*step) { C(chdir(P("d"))); again("2"); } see_open(AT_FDCWD, ""); }
	else if (is("cwd_chroot")) { C(chroot(P("d"))); C(chdir("/")); see_open(AT_FDCWD, "/"); }
	/* == stale descriptors: the number is used again == */
	else if (is("reuse_close_fcntl")) { int a = dir("other"), b = dir("d"); close(a); int e = C(fcntl(b, F_DUPFD, 3)); if (e != a) return 4; see_open(e, ""); }
	else if (is("reuse_range_scm")) { int a = dir("other"); int sv[2]; C(dup2(a, 60)); C(socketpair(AF_UNIX, SOCK_STREAM, 0, sv)); int b = dir("d"); send_fd(sv[1], b);
		for (int i = 3; i < 60; i++) if (i != a && i != b && i != sv[0] && i != sv[1]) fcntl(0, F_DUPFD, 3);
		C(close_range(60, 60, 0)); int e = recv_fd(sv[0], 0); if (e != 60) { fprintf(stderr, "fd %d\n", e); return 4; } see_open(e, ""); }
	else if (is("reuse_range_pipe")) { int a = filefd("secret"); C(close_range(a, a, 0)); int pp[2]; C(pipe(pp)); if (pp[0] != a) return 4; see_fd(pp[0]); }
	else if (is("reuse_close_pipe")) { int a = filefd("secret"); close(a); int pp[2]; C(syscall(SYS_pipe, pp)); if (pp[0] != a) return 4; see_fd(pp[0]); }
	else if (is("reuse_close_accept")) { int s = srv(NUM); pid_t p = client(NUM); (void)p; int a = filefd("secret"); close(a); int c = C(syscall(SYS_accept, s, 0, 0)); if (c != a) return 4; see_fd(c); }
	else if (is("reuse_close_unseen")) { int a = filefd("secret"); close(a); int e = C(syscall(SYS_pidfd_open, getpid(), 0)); (void)e; int f = C(syscall(SYS_fanotify_init, 0, 0)); (void)f; see_fd(a); }
	else if (is("reuse_range_unseen")) { int a = filefd("secret"); C(close_range(a, a, 0)); int f = C(syscall(SYS_fanotify_init, 0, 0)); if (f != a) return 4; see_fd(f); }
	else if (is("reuse_range_cloexec")) { if (!*step) { C(dup2(filefd("secret"), 62)); C(close_range(62, 62, CLOSE_RANGE_CLOEXEC)); again("2"); } see_fd(62); }
	/* == kinds of descriptors, seen by fchown == */
	else if (is("fd_file")) see_fd(filefd("secret"));
	else if (is("fd_open")) see_fd(C(syscall(SYS_open, P("secret"), O_RDWR)));
	else if (is("fd_openat2")) { struct open_how h = {.flags = O_RDWR}; see_fd(C(syscall(SYS_openat2, AT_FDCWD, P("secret"), &h, sizeof h))); }
	else if (is("fd_creat")) see_fd(C(syscall(SYS_creat, P("made"), 0600)));
	else if (is("fd_dup")) see_fd(C(syscall(SYS_dup, filefd("secret"))));
	else if (is("fd_dup3")) see_fd(C(syscall(SYS_dup3, filefd("secret"), 49, 0)));
	else if (is("fd_dupfd_cloexec")) see_fd(C(fcntl(filefd("secret"), F_DUPFD_CLOEXEC, 50)));
	else if (is("fd_scm")) see_fd(scm("secret", O_RDWR, 0));
	else if (is("fd_by_handle")) see_fd(by_handle("secret", O_RDWR));
	else if (is("fd_memfd")) see_fd(C(memfd_create("payload", 0)));
	else if (is("fd_pipe")) { int p[2]; C(syscall(SYS_pipe, p)); see_fd(p[0]); }
	else if (is("fd_pipe2")) { int p[2]; C(syscall(SYS_pipe2, p, O_CLOEXEC)); see_fd(p[1]); }
	else if (is("fd_eventfd")) see_fd(C(syscall(SYS_eventfd, 0)));
	else if (is("fd_eventfd2")) see_fd(C(syscall(SYS_eventfd2, 0, 0)));
	else if (is("fd_signalfd4")) { sigset_t m; sigemptyset(&m); sigaddset(&m, SIGUSR1); see_fd(is("fd_signalfd") ? C(syscall(SYS_signalfd, -1, &m, 8)) : C(syscall(SYS_signalfd4, -1, &m, 8, 0))); }
	else if (is("fd_timerfd")) see_fd(C(timerfd_create(CLOCK_MONOTONIC, 0)));
	else if (is("fd_inotify1")) see_fd(C(syscall(SYS_inotify_init1, 0)));
	else if (is("fd_epoll1")) see_fd(C(syscall(SYS_epoll_create1, 0)));
	else if (is("fd_userfaultfd")) see_fd(C(syscall(SYS_userfaultfd, 1)));
	else if (is("fd_io_uring")) { char pr[120] = {0}; see_fd(C(syscall(SYS_io_uring_setup, 2, pr))); }
	else if (is("fd_pidfd")) see_fd(C(syscall(SYS_pidfd_open, getpid(), 0)));
	else if (is("fd_bpf")) { union bpf_attr a; memset(&a, 0, sizeof a); a.map_type = BPF_MAP_TYPE_ARRAY; a.key_size = 4; a.value_size = 4; a.max_entries = 1; see_fd(C(syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof a))); }
	else if (is("fd_socketpair")) { int s[2]; C(socketpair(AF_UNIX, SOCK_STREAM, 0, s)); see_fd(s[0]); }
	else if (is("fd_socket4")) see_fd(C(socket(AF_INET, SOCK_STREAM, 0)));
	else if (is("fd_inherit_fork")) { int f = filefd("secret"); pid_t p = rawfork(); if (!p) { see_fd(f); _exit(0); } reap(p); }
	/* == connections, seen by fchown == */
	else if (is("net_connect")) { pid_t p = server(NUM); see_fd(cli(NUM, 0)); (void)p; }
	else if (is("net_connect_nb")) { pid_t p = server(NUM); int s = cli(NUM, SOCK_NONBLOCK); struct pollfd f = {s, POLLOUT, 0}; poll(&f, 1, 1000); int e; socklen_t l = sizeof e; getsockopt(s, SOL_SOCKET, SO_ERROR, &e, &l); see_fd(s); (void)p; }
	else if (is("net_connect_bound")) { pid_t p = server(NUM); int s = C(socket(AF_INET, SOCK_STREAM, 0)); struct sockaddr_in a = A4(NUM - 20000), b = A4(NUM); int one = 1; setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one); C(bind(s, (void *)&a, sizeof a)); C(connect(s, (void *)&b, sizeof b)); see_fd(s); (void)p; }
	else if (is("net_accept")) see_fd(accepted(0));
	else if (is("net_accept4")) see_fd(accepted(1));
	else if (is("net_accept_fork")) { int c = accepted(0); pid_t p = fork(); if (!p) { see_fd(c); _exit(0); } reap(p); }
	else if (is("net_bind")) { int s = C(socket(AF_INET, SOCK_STREAM, 0)); struct sockaddr_in a = A4(NUM); C(bind(s, (void *)&a, sizeof a)); see_fd(s); }
	else if (is("net_unix_connect")) {
		int s = C(socket(AF_UNIX, SOCK_STREAM, 0)); struct sockaddr_un u = {.sun_family = AF_UNIX}; snprintf(u.sun_path, sizeof u.sun_path, "%s/sock", D); unlink(u.sun_path);
		C(bind(s, (void *)&u, sizeof u)); C(listen(s, 1)); int c = C(socket(AF_UNIX, SOCK_STREAM, 0)); C(connect(c, (void *)&u, sizeof u)); int k = C(syscall(SYS_accept, s, 0, 0)); see_fd(is("net_unix_connect") ? c : k); }
	else if (is("udp_sendto")) { pid_t p = udp_server(NUM, 0, 0); int s = C(socket(AF_INET, SOCK_DGRAM, 0)); struct sockaddr_in a = A4(NUM); C(sendto(s, "x", 1, 0, (void *)&a, sizeof a)); see_fd(s); reap(p); }
	else if (is("udp_sendmsg")) { pid_t p = udp_server(NUM, 0, 0); int s = C(socket(AF_INET, SOCK_DGRAM, 0)); struct sockaddr_in a = A4(NUM); struct msghdr m; struct iovec v; fill(&m, &v, "x", 1, &a, sizeof a); C(sendmsg(s, &m, 0)); see_fd(s); reap(p); }
	else if (is("udp_connect")) { pid_t p = udp_server(NUM, 0, 0); int s = C(socket(AF_INET, SOCK_DGRAM, 0)); struct sockaddr_in a = A4(NUM); C(connect(s, (void *)&a, sizeof a)); send(s, "x", 1, 0); see_fd(s); reap(p); }
	else if (is("udp_recvfrom") || is("udp_recvmsg")) {
		int s = C(socket(AF_INET, SOCK_DGRAM, 0)); struct sockaddr_in a = A4(NUM), f; socklen_t l = sizeof f; C(bind(s, (void *)&a, sizeof a));
		pid_t p = fork(); if (!p) { int c = socket(AF_INET, SOCK_DGRAM, 0); sendto(c, "x", 1, 0, (void *)&a, sizeof a); _exit(0); }
		char b[64]; struct mmsghdr m = {0}; struct iovec v; fill(&m.msg_hdr, &v, b, 64, &f, sizeof f);
		if (is("udp_recvfrom")) C(recvfrom(s, b, 64, 0, (void *)&f, &l)); else if (is("udp_recvmsg")) C(recvmsg(s, &m.msg_hdr, 0)); else C(syscall(SYS_recvmmsg, s, &m, 1, 0, 0));
		see_fd(s); reap(p); }
	/* == network calls as the rules name them == */
	else if (is("see_connect")) { pid_t p = server(NUM); cli(NUM, 0); (void)p; }
	else if (is("see_connect_udp")) { int s = C(socket(AF_INET, SOCK_DGRAM, 0)); struct sockaddr_in a = A4(NUM); C(connect(s, (void *)&a, sizeof a)); }
	else if (is("see_connect_dupfd")) { pid_t p = server(NUM); int s = C(socket(AF_INET, SOCK_STREAM, 0)); s = C(fcntl(s, F_DUPFD_CLOEXEC, 30)); struct sockaddr_in a = A4(NUM); C(connect(s, (void *)&a, sizeof a)); (void)p; }
	else if (is("see_accept")) accepted(0);
	else if (is("see_listen")) { int s = C(socket(AF_INET, SOCK_STREAM, 0)); struct sockaddr_in a = A4(NUM - 20000); C(bind(s, (void *)&a, sizeof a)); C(listen(s, NUM)); }
	else if (is("see_listen_scm")) { int sv[2]; C(socketpair(AF_UNIX, SOCK_STREAM, 0, sv)); pid_t p = fork(); if (!p) { int s = C(socket(AF_INET, SOCK_STREAM, 0)); struct sockaddr_in a = A4(NUM - 20000); C(bind(s, (void *)&a, sizeof a)); send_fd(sv[1], s); nap(50); _exit(0); } C(listen(recv_fd(sv[0], 0), NUM)); reap(p); }
	else if (is("see_sendto")) { pid_t p = udp_server(NUM, 0, 0); int s = C(socket(AF_INET, SOCK_DGRAM, 0)); struct sockaddr_in a = A4(NUM); char b[9000] = {0}; C(sendto(s, b, NUM - 30000, 0, (void *)&a, sizeof a)); reap(p); }
	else if (is("see_sendto_conn")) { pid_t p = server(NUM); int s = cli(NUM, 0); char b[9000] = {0}; C(sendto(s, b, NUM - 30000, 0, 0, 0)); (void)p; }
	else if (is("see_sendto_udp_conn")) { pid_t p = udp_server(NUM, 0, 0); int s = C(socket(AF_INET, SOCK_DGRAM, 0)); struct sockaddr_in a = A4(NUM); C(connect(s, (void *)&a, sizeof a)); char b[9000] = {0}; C(sendto(s, b, NUM - 30000, 0, 0, 0)); reap(p); }
	else if (is("see_sendto_accept")) { int c = accepted(0); char b[9000] = {0}; C(sendto(c, b, NUM - 30000, 0, 0, 0)); }
	else if (is("see_sendto_dupfd")) { pid_t p = server(NUM); int s = C(fcntl(cli(NUM, 0), F_DUPFD, 30)); char b[9000] = {0}; C(sendto(s, b, NUM - 30000, 0, 0, 0)); (void)p; }
	else if (is("see_sendmmsg")) { pid_t p = udp_server(NUM, 0, 0); int s = C(socket(AF_INET, SOCK_DGRAM, 0)); struct sockaddr_in a = A4(NUM); char b[9000] = {0}; struct mmsghdr m = {0}; struct iovec v; fill(&m.msg_hdr, &v, b, NUM - 30000, &a, sizeof a); C(sendmmsg(s, &m, 1, 0)); reap(p); }
	else if (is("see_recvfrom")) {
		pid_t p = udp_server(NUM, 1, NUM - 30000); int s = C(socket(AF_INET, SOCK_DGRAM, 0)); struct sockaddr_in a = A4(NUM), f; socklen_t l = sizeof f; char b[9000] = {0};
		C(sendto(s, b, 1, 0, (void *)&a, sizeof a)); struct msghdr m; struct iovec v; fill(&m, &v, b, NUM - 30000, &f, sizeof f);
		if (is("see_recvfrom")) C(recvfrom(s, b, NUM - 30000, 0, (void *)&f, &l)); else C(recvmsg(s, &m, 0)); reap(p); }
	/* == dup2 as "shell on a socket" == */
	else if (is("dup_connect")) { pid_t p = server(NUM + 20000); see_dup(cli(NUM + 20000, 0)); (void)p; }
	else if (is("dup_accept") || is("dup_accept_fork")) { NUM += 20000; int c = accepted(is("dup_accept4")); NUM -= 20000; if (is("dup_accept_fork")) { pid_t p = fork(); if (!p) { see_dup(c); _exit(0); } reap(p); } else see_dup(c); }
	else if (is("dup_socketpair")) { int s[2]; C(socketpair(AF_UNIX, SOCK_STREAM, 0, s)); see_dup(s[0]); }
	else if (is("dup_pipe")) { int s[2]; C(syscall(SYS_pipe2, s, 0)); see_dup(s[0]); }
	else if (is("dup_memfd")) see_dup(C(memfd_create("payload", 0)));
	/* == calls on paths relative to a handle == */
	else if (is("path_unlinkat")) C(unlinkat(fcntl(dir("d"), F_DUPFD_CLOEXEC, 3), T, 0));
	else if (is("path_renameat2")) C(syscall(SYS_renameat2, dup(dir("d")), T, fcntl(dir("other"), F_DUPFD, 3), T, 0));
	else if (is("path_renameat")) C(syscall(SYS_renameat, getfd_from("d", O_RDONLY | O_DIRECTORY), T, AT_FDCWD, P("other/x"), 0));
	else if (is("path_linkat")) C(linkat(fcntl(dir("d"), F_DUPFD_CLOEXEC, 3), T, AT_FDCWD, P("hard"), 0));
	else if (is("path_mkdirat")) C(mkdirat(fcntl(dir("d"), F_DUPFD, 3), "t_path_mkdirat_n", 0700));
	else if (is("path_fchmodat")) C(syscall(SYS_fchmodat, fcntl(dir("d"), F_DUPFD_CLOEXEC, 3), T, 0640));
	else if (is("path_fchownat")) C(fchownat(by_handle("d", O_RDONLY | O_DIRECTORY), T, -1, 0, 0));
	/* == users and groups, seen by open == */
	else if (is("id_setuid")) { C(syscall(SYS_setuid, 65534)); see_abs(); }
	else if (is("id_setgid")) { C(syscall(SYS_setgid, 65534)); see_abs(); }
	else if (is("id_setresuid")) { C(syscall(SYS_setresuid, 65534, 65534, 65534)); see_abs(); }
	else if (is("id_setresgid")) { C(syscall(SYS_setresgid, 65534, 65534, 65534)); see_abs(); }
	else if (is("id_setreuid")) { C(syscall(SYS_setreuid, 65534, 65534)); see_abs(); }
	else if (is("id_setregid")) { C(syscall(SYS_setregid, 65534, 65534)); see_abs(); }
	else if (is("id_exec")) { if (!*step) { C(syscall(SYS_setreuid, 65534, 65534)); again("2"); } see_abs(); }
	else if (is("id_setfsuid")) { syscall(SYS_setfsuid, 65534); see_abs(); }
	else if (is("see_setuid")) { C(syscall(SYS_setreuid, 65534, 65534)); syscall(SYS_setuid, NUM); }
	else if (is("cap_capset")) { drop_all(); see_abs(); }
	else if (is("cap_setuid")) { C(syscall(SYS_setresuid, 65534, 65534, 65534)); see_abs(); }
	else if (is("cap_unshare_user")) { drop_all(); C(unshare(CLONE_NEWUSER)); see_abs(); }
	/* == processes, seen by open == */
	else if (is("proc_execve") || is("proc_execveat") || is("proc_vfork_exec") || is("proc_fork_exec") || is("proc_clone3_exec") || is("proc_spawn_parent")) {
		char bin[600]; snprintf(bin, sizeof bin, "%s/bin/alpha", ROOT); char n[16]; snprintf(n, sizeof n, "%d", NUM);
		char *av[] = {bin, "see", (char *)ID, 0}; pid_t p = -1;
		if (is("proc_vfork_exec")) p = vfork(); else if (is("proc_fork_exec")) p = rawfork(); else if (is("proc_clone3_exec")) p = clone3_(0, 0); else if (is("proc_spawn_parent")) p = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (p > 0) { reap(p); return 0; }
		if (is("proc_execveat")) { C(syscall(SYS_execveat, AT_FDCWD, bin, av, environ, 0)); }
		if (is("proc_execveat_memfd")) { int m = C(memfd_create("payload", 0)), f = C(open(bin, O_RDONLY)); char b[65536]; int k; while ((k = read(f, b, sizeof b)) > 0) write(m, b, k); C(syscall(SYS_execveat, m, "", av, environ, AT_EMPTY_PATH)); }
		execv(bin, av); _exit(9); }
	else if (is("proc_fork")) { pid_t p = rawfork(); if (!p) { see_abs(); _exit(0); } reap(p); }
	else if (is("proc_clone_thread_exec")) { char bin[600]; snprintf(bin, sizeof bin, "%s/bin/alpha", ROOT); char *av[] = {bin, "see", (char *)ID, 0}; execv(bin, av); }
	else if (is("proc_prctl_name")) { C(prctl(PR_SET_NAME, "renamed")); see_abs(); }
	else if (is("proc_prctl_name_fork")) { C(prctl(PR_SET_NAME, "renamed")); pid_t p = rawfork(); if (!p) { see_abs(); _exit(0); } reap(p); }
	else if (is("proc_subreaper")) { /* the grandchild's parent dies: the new parent is this process, not init */
		C(prctl(PR_SET_CHILD_SUBREAPER, 1)); char bin[600]; snprintf(bin, sizeof bin, "%s/bin/beta", ROOT);
		pid_t p = rawfork(); if (!p) { char *av[] = {bin, "orphan", (char *)ID, 0}; execv(bin, av); _exit(9); } reap(p); while (waitpid(-1, 0, 0) > 0); }
	else if (is("proc_setsid")) { pid_t p = rawfork(); if (!p) { C(setsid()); see_abs(); _exit(0); } reap(p); }
	else if (is("proc_setpgid")) { pid_t p = rawfork(); if (!p) { C(setpgid(0, 0)); see_abs(); _exit(0); } reap(p); }
	else if (is("proc_setpgid_fork")) { pid_t p = rawfork(); if (!p) { C(setpgid(0, 0)); pid_t q = rawfork(); if (!q) { see_abs(); _exit(0); } reap(q); _exit(0); } reap(p); }
	else if (is("proc_prlimit")) { struct rlimit r = {77, 77}; if (is("proc_prlimit")) C(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &r, 0)); else C(syscall(SYS_setrlimit, RLIMIT_NOFILE, &r)); see_abs(); }
	else if (is("proc_pid_reuse")) { /* the same pid twice */
		pid_t p = rawfork(); if (!p) { C(chdir(P("other"))); char bin[600]; snprintf(bin, sizeof bin, "%s/bin/beta", ROOT); char *av[] = {bin, "true", (char *)ID, 0}; execv(bin, av); _exit(9); } reap(p);
		C(chdir(P("d"))); pid_t q = C(clone3_(0, p)); if (!q) { see_open(AT_FDCWD, ""); _exit(0); } reap(q); }
	else if (is("proc_chroot_shell")) { C(chroot(P("."))); C(chdir("/d")); see_open(AT_FDCWD, "/d/"); }
	else if (is("proc_unshare_fs")) { C(unshare(CLONE_FS)); C(chdir(P("d"))); see_open(AT_FDCWD, ""); }
	/* == a shell on a descriptor, seen by execve (proc.stdin.*) == */
	else if (!strncmp(ID, "std_", 4)) {
		int f = -1; char bin[600]; snprintf(bin, sizeof bin, "%s/bin/alpha", ROOT); char *av[] = {bin, "noop", T, 0};
		if (is("std_connect")) { server(NUM); f = cli(NUM, 0); } else if (is("std_accept")) f = accepted(0); else if (is("std_accept4")) { f = accepted(1); }
		else if (is("std_socketpair")) { int s[2]; C(socketpair(AF_UNIX, SOCK_STREAM, 0, s)); f = s[0]; } else if (is("std_pipe")) { int s[2]; C(syscall(SYS_pipe2, s, 0)); f = s[0]; }
		else if (is("std_file")) f = filefd("secret"); else if (is("std_fcntl")) { close(0); server(NUM); int s = cli(NUM, 0); if (s != 0) { f = s; close(0); C(fcntl(f, F_DUPFD, 0)); } execv(bin, av); } else if (is("std_dup")) { server(NUM); f = cli(NUM, 0); close(0); C(syscall(SYS_dup, f)); execv(bin, av); } else if (is("std_dup3")) { server(NUM); f = cli(NUM, 0); C(syscall(SYS_dup3, f, 0, 0)); execv(bin, av); }
		C(syscall(SYS_dup2, f, 0)); execv(bin, av); die("exec"); }
	/* == what the copies bin/alpha and bin/beta do == */
	else if (is("see")) { char b[900]; snprintf(b, sizeof b, "%s/%s/t_%s", ROOT, argv[2], argv[2]); C(syscall(SYS_openat, AT_FDCWD, b, O_RDONLY)); }
	else if (is("noop") || is("true")) ;
	else if (is("orphan")) { pid_t p = rawfork(); if (!p) { pid_t old = getppid(); while (getppid() == old) nap(5); nap(30); char b[900]; snprintf(b, sizeof b, "%s/%s/t_%s", ROOT, argv[2], argv[2]); C(syscall(SYS_openat, AT_FDCWD, b, O_RDONLY)); _exit(0); } nap(10); }
	else { fprintf(stderr, "unknown scenario %s\n", ID); return 2; }
	return 0;
}
