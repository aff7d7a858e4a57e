/* SPDX-License-Identifier: MIT */
#ifndef SIM_MULTIPART_H
#define SIM_MULTIPART_H

#include <stddef.h>

/*
 * multipart: find a part of a multipart/form-data body (RFC 7578) by its
 * name.  Pure.
 *
 * type is the Content-Type with its boundary.  What is returned is borrowed
 * from data; NULL where there is none of that name, or no whole one.
 */
const char *multipart_find(const char *type, const char *data, size_t len,
    const char *name, size_t *ret_len);

#endif
