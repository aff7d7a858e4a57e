/* SPDX-License-Identifier: MIT */
/*
 * packets SOCKET: a peer on a SEQPACKET socket, for scripts, which have no such
 * sockets.  A line of standard input is sent as one packet, and a packet that
 * comes is printed as one line.  The end of the input ends the connection
 * without a word, as a crash does; the end of the connection ends this.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PACKET_BYTES (64 * 1024)

static char line[PACKET_BYTES], packet[PACKET_BYTES];
static size_t line_len;

/* Send the lines that are whole; false at the end. */
static int
read_lines(int fd)
{
	ssize_t n =
	    read(STDIN_FILENO, line + line_len, sizeof(line) - line_len);
	char *end;

	if (n <= 0)
		return 0;
	line_len += (size_t)n;
	while ((end = memchr(line, '\n', line_len)) != NULL) {
		size_t len = (size_t)(end - line);

		if (send(fd, line, len, MSG_NOSIGNAL) == -1)
			return 0;
		line_len -= len + 1;
		(void)memmove(line, end + 1, line_len);
	}
	return line_len < sizeof(line);
}

static int
print_packet(int fd)
{
	ssize_t n = recv(fd, packet, sizeof(packet), 0);

	if (n <= 0)
		return 0;
	(void)printf("%.*s\n", (int)n, packet);
	return fflush(stdout) == 0;
}

int
main(int argc, char *argv[])
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	struct pollfd fds[] = { { .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = fd, .events = POLLIN } };
	int go_on = 1;

	if (argc != 2 || strlen(argv[1]) >= sizeof(addr.sun_path)) {
		(void)fputs("usage: packets SOCKET\n", stderr);
		return 2;
	}
	(void)strcpy(addr.sun_path, argv[1]);
	if (connect(fd, (void *)&addr, sizeof(addr)) == -1) {
		perror(argv[1]);
		return 1;
	}
	while (go_on && poll(fds, 2, -1) != -1) {
		if (fds[1].revents != 0)
			go_on = print_packet(fd);
		if (go_on && fds[0].revents != 0)
			go_on = read_lines(fd);
	}
	return 0;
}
