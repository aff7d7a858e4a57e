/* SPDX-License-Identifier: MIT */
#ifndef COMMON_XALLOC_H
#define COMMON_XALLOC_H

#include <stddef.h>

/* Allocate or abort: out of memory is not an error code here. */
void *xcalloc(size_t n, size_t size);
void *xreallocarray(void *p, size_t n, size_t size);

/* Copies; the caller frees them. */
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t len);

/* printf into new memory; the caller frees it. */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
