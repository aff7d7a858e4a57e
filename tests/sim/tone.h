/* SPDX-License-Identifier: MIT */
#ifndef SIM_TONE_H
#define SIM_TONE_H

#include <stddef.h>

/* tone: a sine of 440 Hz in the audio formats of OpenAI Realtime.  Pure. */
enum tone_format {
	TONE_PCM,  /* 24 kHz, 16 bit, little-endian */
	TONE_PCMU, /* 8 kHz, G.711 u-law */
	TONE_PCMA, /* 8 kHz, G.711 A-law */
};

/* "audio/pcm", "audio/pcmu", "audio/pcma"; TONE_PCM for anything else. */
enum tone_format tone_format_parse(const char *name);

/* Bytes of this many milliseconds, and the other way round. */
size_t tone_bytes(enum tone_format format, size_t ms);
size_t tone_ms(enum tone_format format, size_t bytes);

/*
 * Base64 of the milliseconds from start_ms of a tone that lasts total_ms and
 * swells and fades; the caller frees it.
 */
char *tone_base64(enum tone_format format, size_t start_ms, size_t ms,
    size_t total_ms);

#endif
