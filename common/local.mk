noinst_LIBRARIES += libcommon.a
libcommon_a_SOURCES = \
	%D%/buf.c %D%/buf.h \
	%D%/clock.c %D%/clock.h \
	%D%/crypt.c %D%/crypt.h \
	%D%/err.c %D%/err.h %D%/err.def \
	%D%/http.c %D%/http.h \
	%D%/json.c %D%/json.h \
	%D%/jwt.c %D%/jwt.h \
	%D%/log.c %D%/log.h \
	%D%/loop.c %D%/loop.h \
	%D%/pin.c %D%/pin.h \
	%D%/probe.h \
	%D%/secret.c %D%/secret.h \
	%D%/service.c %D%/service.h \
	%D%/str.c %D%/str.h \
	%D%/thread.c %D%/thread.h \
	%D%/wire.c %D%/wire.h \
	%D%/wire_field.c %D%/wire_field.h \
	%D%/wire_headers.c %D%/wire_headers.h \
	%D%/wire_text.c %D%/wire_text.h \
	%D%/ws_frame.c %D%/ws_frame.h \
	%D%/xalloc.c %D%/xalloc.h
