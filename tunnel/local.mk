noinst_LIBRARIES += libtunnel.a
libtunnel_a_SOURCES = \
	%D%/broker_link.c %D%/broker_link.h \
	%D%/dial.c %D%/dial.h \
	%D%/flow.c %D%/flow.h \
	%D%/http_head.c %D%/http_head.h \
	%D%/loop.c %D%/loop.h \
	%D%/stream.c %D%/stream.h \
	%D%/ws_frame.c %D%/ws_frame.h
