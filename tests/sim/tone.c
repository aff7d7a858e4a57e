/* SPDX-License-Identifier: MIT */
#include "tone.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/crypt.h"
#include "common/xalloc.h"

#define HERTZ	  440.0
#define AMPLITUDE 8000.0 /* a quarter of full scale: no one is startled */
#define FADE_S	  0.03	 /* without it the ends click */

enum tone_format
tone_format_parse(const char *name)
{
	if (name != NULL && strcmp(name, "audio/pcmu") == 0)
		return TONE_PCMU;
	if (name != NULL && strcmp(name, "audio/pcma") == 0)
		return TONE_PCMA;
	return TONE_PCM;
}

size_t
tone_bytes(enum tone_format format, size_t ms)
{
	return format == TONE_PCM ? ms * 48 : ms * 8;
}

size_t
tone_ms(enum tone_format format, size_t bytes)
{
	return format == TONE_PCM ? bytes / 48 : bytes / 8;
}

/* G.711: sign, three bits of exponent, four of mantissa, inverted. */
static uint8_t
to_ulaw(int sample)
{
	int sign = sample < 0 ? 0x80 : 0, exponent = 7;

	sample = (sample < 0 ? -sample : sample) + 132;
	if (sample > 32767)
		sample = 32767;
	while (exponent > 0 && !(sample & 0x80 << exponent))
		exponent--;
	return (uint8_t) ~(
	    sign | exponent << 4 | (sample >> (exponent + 3) & 0xf));
}

static uint8_t
to_alaw(int sample)
{
	int sign = sample < 0 ? 0 : 0x80, exponent = 7, value;

	if (sample < 0)
		sample = -sample - 1;
	while (exponent > 0 && !(sample & 0x80 << exponent))
		exponent--;
	value = exponent == 0
	    ? sample >> 4 & 0xf
	    : exponent << 4 | (sample >> (exponent + 3) & 0xf);
	return (uint8_t)((sign | value) ^ 0x55);
}

static double
envelope(double t, double total)
{
	double edge = t < total - t ? t : total - t;

	if (edge <= 0)
		return 0;
	return edge < FADE_S ? edge / FADE_S : 1;
}

char *
tone_base64(enum tone_format format, size_t start_ms, size_t ms,
    size_t total_ms)
{
	size_t rate = format == TONE_PCM ? 24000 : 8000;
	size_t count = rate * ms / 1000, first = rate * start_ms / 1000;
	size_t len = tone_bytes(format, ms);
	uint8_t *bytes = xcalloc(len + 1, 1);
	char *text;

	for (size_t i = 0; i < count; i++) {
		double t = (double)(first + i) / (double)rate;
		int sample = (int)(AMPLITUDE * sin(2 * M_PI * HERTZ * t) *
		    envelope(t, (double)total_ms / 1000));

		if (format == TONE_PCM) {
			bytes[2 * i] = (uint8_t)(sample & 0xff);
			bytes[2 * i + 1] = (uint8_t)(sample >> 8 & 0xff);
		} else {
			bytes[i] = format == TONE_PCMU ? to_ulaw(sample)
						       : to_alaw(sample);
		}
	}
	text = crypt_base64(bytes, len);
	free(bytes);
	return text;
}
