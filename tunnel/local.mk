noinst_LIBRARIES += libtunnel.a
libtunnel_a_SOURCES = \
	%D%/asks.c %D%/asks.h \
	%D%/broker_link.c %D%/broker_link.h \
	%D%/cause.c %D%/cause.h %D%/cause.def \
	%D%/client_side.c %D%/client_side.h \
	%D%/dial.c %D%/dial.h \
	%D%/dialect.c %D%/dialect.h \
	%D%/flow.c %D%/flow.h \
	%D%/gate.c %D%/gate.h \
	%D%/held.c %D%/held.h \
	%D%/http_head.c %D%/http_head.h \
	%D%/intake.c %D%/intake.h \
	%D%/json_peek.c %D%/json_peek.h \
	%D%/key_mask.c %D%/key_mask.h \
	%D%/leg.c %D%/leg.h \
	%D%/linger.c %D%/linger.h \
	%D%/message_log.c %D%/message_log.h \
	%D%/question.c %D%/question.h \
	%D%/relay.c %D%/relay.h \
	%D%/reply.c %D%/reply.h \
	%D%/report.c %D%/report.h \
	%D%/session.c %D%/session.h \
	%D%/sink.c %D%/sink.h \
	%D%/stream.c %D%/stream.h \
	%D%/text_chat.c %D%/text_chat.h \
	%D%/transform.c %D%/transform.h \
	%D%/vendor_event.c %D%/vendor_event.h \
	%D%/supervisor.c %D%/supervisor.h \
	%D%/worker.c %D%/worker.h

sbin_PROGRAMS += culvert-tunnel
culvert_tunnel_SOURCES = %D%/main.c
# symbols are bound once, before fork, not in every child
culvert_tunnel_LDFLAGS = $(AM_LDFLAGS) -Wl,-z,relro,-z,now
culvert_tunnel_LDADD = libtunnel.a libcommon.a $(TUNNEL_LIBS)
