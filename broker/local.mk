noinst_LIBRARIES += libbroker.a
libbroker_a_SOURCES = \
	%D%/accept_pool.c %D%/accept_pool.h \
	%D%/access.c %D%/access.h \
	%D%/config_anam.c %D%/config_anam.h \
	%D%/anam.c %D%/anam.h \
	%D%/anam_flight.c %D%/anam_flight.h \
	%D%/anam_route.c %D%/anam_route.h \
	%D%/anam_session.c %D%/anam_session.h \
	%D%/anam_token.c %D%/anam_token.h \
	%D%/anam_vendor.c %D%/anam_vendor.h \
	%D%/conf_tree.c %D%/conf_tree.h \
	%D%/config.c %D%/config.h \
	%D%/config_file.c \
	%D%/config_grants.def \
	%D%/config_limits.def \
	%D%/config_livekit.c %D%/config_livekit.h \
	%D%/config_messages.c %D%/config_messages.h \
	%D%/config_notice.c %D%/config_notice.h \
	%D%/config_prices.c %D%/config_prices.h \
	%D%/config_relay.c %D%/config_relay.h \
	%D%/config_session.c %D%/config_session.h \
	%D%/config_store.c %D%/config_store.h \
	%D%/config_value.c %D%/config_value.h \
	%D%/control_log.c %D%/control_log.h \
	%D%/control_peer.c %D%/control_peer.h \
	%D%/control_report.c %D%/control_report.h \
	%D%/control_server.c %D%/control_server.h \
	%D%/http_client.c %D%/http_client.h \
	%D%/database.c %D%/database.h \
	%D%/leases.c %D%/leases.h \
	%D%/ledger.c %D%/ledger.h \
	%D%/livekit.c %D%/livekit.h \
	%D%/livekit_token.c %D%/livekit_token.h \
	%D%/multipart.c %D%/multipart.h \
	%D%/openai.c %D%/openai.h \
	%D%/openai_ask.c %D%/openai_ask.h \
	%D%/openai_call.c %D%/openai_call.h \
	%D%/refusals.c %D%/refusals.h \
	%D%/message_file.c %D%/message_file.h \
	%D%/price.c %D%/price.h \
	%D%/request.c %D%/request.h \
	%D%/request_parse.c %D%/request_parse.h \
	%D%/resolver.c %D%/resolver.h \
	%D%/route.c %D%/route.h \
	%D%/session_rules.c %D%/session_rules.h \
	%D%/signing_key.c %D%/signing_key.h \
	%D%/store.c %D%/store.h \
	%D%/store_sqlite.c %D%/store_sqlite.h \
	%D%/store_sqlite.def \
	%D%/target.c %D%/target.h \
	%D%/ticket.c %D%/ticket.h \
	%D%/tunnel_route.c %D%/tunnel_route.h \
	%D%/tunnel_ticket.c %D%/tunnel_ticket.h \
	%D%/url.c %D%/url.h \
	%D%/usage_event.c %D%/usage_event.h \
	%D%/usage_report.c %D%/usage_report.h

sbin_PROGRAMS += culvert-broker
culvert_broker_SOURCES = %D%/main.c
culvert_broker_LDADD = libbroker.a libcommon.a $(BROKER_LIBS)

culvertconfdir = $(sysconfdir)/culvert
dist_culvertconf_DATA = deploy/culvert.conf.sample
