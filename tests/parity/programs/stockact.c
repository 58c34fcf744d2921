/* Copyright (c) 2026 falcotune contributors
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
/* Harmless actions for the rules that come with Falco: stockact WHAT HOW [args]; everything in the scratch directory or a plain read. */
#define main scn_main
#include "scn.c"
#undef main
static int handle_of(const char *path, const char *how) {
	int fl = O_RDONLY | O_DIRECTORY, d;
	snprintf(D, sizeof D, "%s", path);
	if (!strcmp(how, "scm")) return scm(".", fl, 0);
	if (!strcmp(how, "mmsg")) return scm(".", fl, 1);
	if (!strcmp(how, "getfd")) return getfd_from(".", fl);
	if (!strcmp(how, "handle")) return by_handle(".", fl);
	d = C(open(path, fl));
	if (!strcmp(how, "direct")) return d;
	if (!strcmp(how, "dup")) return C(dup(d));
	if (!strcmp(how, "fcntl")) return C(fcntl(d, F_DUPFD_CLOEXEC, 3));
	if (!strcmp(how, "fchdir")) { C(fchdir(fcntl(d, F_DUPFD_CLOEXEC, 3))); return AT_FDCWD; }
	fprintf(stderr, "how? %s\n", how); exit(2);
}
int main(int argc, char **argv) {
	const char *w = argv[1], *how = argc > 2 ? argv[2] : ""; ID = w; alarm(15); NUM = argc > 3 ? atoi(argv[3]) : 0;
	if (!strcmp(w, "read")) C(openat(handle_of(argv[3], how), argv[4], O_RDONLY));                          /* read HOW DIR NAME */
	else if (!strcmp(w, "lateread")) { nap(6000); C(openat(handle_of(argv[3], how), argv[4], O_RDONLY)); }
	else if (!strcmp(w, "forkread")) { pid_t p = fork(); if (!p) { C(openat(handle_of(argv[3], how), argv[4], O_RDONLY)); _exit(0); } reap(p); }
	else if (!strcmp(w, "write")) C(openat(handle_of(argv[3], how), argv[4], O_WRONLY | O_CREAT | O_TRUNC, 0600));
	else if (!strcmp(w, "link")) { unlink(argv[5]); C(linkat(handle_of(argv[3], how), argv[4], AT_FDCWD, argv[5], 0)); unlink(argv[5]); }
	else if (!strcmp(w, "symlink")) { unlink(argv[3]); C(symlink("/etc/shadow", argv[3])); unlink(argv[3]); }
	else if (!strcmp(w, "redirect")) {                                                                       /* redirect HOW PORT */
		int c;
		if (!strcmp(how, "connect")) { server(NUM); c = cli(NUM, 0); }
		else if (!strcmp(how, "accept")) c = accepted(0);
		else if (!strcmp(how, "accept4")) c = accepted(1);
		else if (!strcmp(how, "connect_fcntl")) { server(NUM); c = C(fcntl(cli(NUM, 0), F_DUPFD_CLOEXEC, 20)); }
		else { int sv[2]; C(socketpair(AF_UNIX, SOCK_STREAM, 0, sv)); pid_t p = fork(); if (!p) { int k = accepted(0); send_fd(sv[1], k); nap(900); _exit(0); } c = recv_fd(sv[0], 0); }
		dup2(c, 0); dup2(c, 1);
	} else if (!strcmp(w, "out")) {                                                                          /* out HOW ADDR PORT */
		struct sockaddr_in a = A4(atoi(argv[4])); inet_pton(AF_INET, argv[3], &a.sin_addr);
		int s = C(socket(AF_INET, SOCK_STREAM, 0)), one = 1; setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one); C(bind(s, (void *)&a, sizeof a)); C(listen(s, 1));
		int c = C(socket(AF_INET, SOCK_STREAM, 0)); if (!strcmp(how, "fcntl")) c = C(fcntl(c, F_DUPFD_CLOEXEC, 20)); C(connect(c, (void *)&a, sizeof a));
	} else if (!strcmp(w, "packet")) { int s = C(socket(AF_PACKET, SOCK_DGRAM, 0)); (void)s; }
	else if (!strcmp(w, "traceme")) { pid_t p = fork(); if (!p) { syscall(SYS_ptrace, 0, 0, 0, 0); _exit(0); } reap(p); }
	else if (!strcmp(w, "attach")) { pid_t p = fork(); if (!p) { pause(); _exit(0); } nap(20); syscall(SYS_ptrace, 16, p, 0, 0); waitpid(p, 0, 0); syscall(SYS_ptrace, 17, p, 0, 0); kill(p, SIGKILL); }
	else if (!strcmp(w, "memfd")) { int m = C(memfd_create("payload", MFD_CLOEXEC)), f = C(open("/proc/self/exe", O_RDONLY)); char b[65536]; int k; while ((k = read(f, b, sizeof b)) > 0) write(m, b, k); char *av[] = {"payload", "noop", 0}; syscall(SYS_execveat, m, "", av, environ, AT_EMPTY_PATH); }
	else if (!strcmp(w, "shell")) { pid_t p = fork(); if (!p) { execl("/bin/sh", "sh", "-c", "true", (char *)0); _exit(1); } reap(p); }
	else if (!strcmp(w, "noop")) ;
	else return 2;
	return 0;
}
