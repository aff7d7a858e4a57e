noinst_LIBRARIES += libbroker.a
libbroker_a_SOURCES = \
	%D%/accept_pool.c %D%/accept_pool.h \
	%D%/access.c %D%/access.h \
	%D%/conf_tree.c %D%/conf_tree.h \
	%D%/config.c %D%/config.h \
	%D%/config_file.c \
	%D%/config_grants.def \
	%D%/config_limits.def \
	%D%/config_livekit.c %D%/config_livekit.h \
	%D%/config_notice.c %D%/config_notice.h \
	%D%/config_prices.c %D%/config_prices.h \
	%D%/config_relay.c %D%/config_relay.h \
	%D%/config_store.c %D%/config_store.h \
	%D%/config_value.c %D%/config_value.h \
	%D%/control_log.c %D%/control_log.h \
	%D%/control_report.c %D%/control_report.h \
	%D%/control_server.c %D%/control_server.h \
	%D%/database.c %D%/database.h \
	%D%/leases.c %D%/leases.h \
	%D%/ledger.c %D%/ledger.h \
	%D%/livekit.c %D%/livekit.h \
	%D%/livekit_token.c %D%/livekit_token.h \
	%D%/message_file.c %D%/message_file.h \
	%D%/price.c %D%/price.h \
	%D%/request.c %D%/request.h \
	%D%/request_parse.c %D%/request_parse.h \
	%D%/resolver.c %D%/resolver.h \
	%D%/route.c %D%/route.h \
	%D%/store.c %D%/store.h \
	%D%/store_sqlite.c %D%/store_sqlite.h \
	%D%/store_sqlite.def \
	%D%/target.c %D%/target.h \
	%D%/tunnel_route.c %D%/tunnel_route.h \
	%D%/url.c %D%/url.h \
	%D%/usage_event.c %D%/usage_event.h \
	%D%/usage_report.c %D%/usage_report.h

sbin_PROGRAMS += culvert-broker
culvert_broker_SOURCES = %D%/main.c
culvert_broker_LDADD = libbroker.a libcommon.a $(BROKER_LIBS)

culvertconfdir = $(sysconfdir)/culvert
dist_culvertconf_DATA = deploy/culvert.conf.sample
