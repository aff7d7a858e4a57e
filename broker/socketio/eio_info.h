/* SPDX-License-Identifier: MIT */
#ifndef BROKER_EIO_INFO_H
#define BROKER_EIO_INFO_H

/* eio_info: what the handshake of a connection of Engine.IO said. */
struct eio_info {
	char sid[25];
	char *address; /* numeric */
	/* headers; NULL: absent */
	char *authorization, *anon_id, *origin, *host, *fetch_site;
	char *cookie; /* those of `users' alone */
};

/* For another thread, or for longer than the connection is there. */
struct eio_info eio_info_copy(const struct eio_info *info);

/* Clear and free. */
void eio_info_done(const struct eio_info *info);

#endif
