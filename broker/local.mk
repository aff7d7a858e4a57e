noinst_LIBRARIES += libbroker.a
libbroker_a_SOURCES = \
	%D%/http/accept_pool.c %D%/http/accept_pool.h \
	%D%/http/access.c %D%/http/access.h \
	%D%/http/address.c %D%/http/address.h \
	%D%/http/answer.c %D%/http/answer.h \
	%D%/http/cgi.c %D%/http/cgi.h \
	%D%/http/fcgi.c %D%/http/fcgi.h \
	%D%/http/flight.c %D%/http/flight.h \
	%D%/config/config_anam.c %D%/config/config_anam.h \
	%D%/anam/anam.c %D%/anam/anam.h \
	%D%/anam/anam_quota.c %D%/anam/anam_quota.h \
	%D%/anam/anam_refuse.c %D%/anam/anam_refuse.h \
	%D%/anam/anam_request.c %D%/anam/anam_request.h \
	%D%/anam/anam_route.c %D%/anam/anam_route.h \
	%D%/anam/anam_session.c %D%/anam/anam_session.h \
	%D%/anam/anam_talk.c %D%/anam/anam_talk.h \
	%D%/anam/anam_token.c %D%/anam/anam_token.h \
	%D%/anam/anam_vendor.c %D%/anam/anam_vendor.h \
	%D%/chat/caller.c %D%/chat/caller.h \
	%D%/chat/chat_cost.c %D%/chat/chat_cost.h \
	%D%/chat/chat_http.c %D%/chat/chat_http.h \
	%D%/chat/chat_json.c %D%/chat/chat_json.h \
	%D%/chat/chat_news.c %D%/chat/chat_news.h \
	%D%/chat/chat_ops.c %D%/chat/chat_ops.h \
	%D%/chat/chat_reader.c %D%/chat/chat_reader.h \
	%D%/chat/chat_recovery.c %D%/chat/chat_recovery.h \
	%D%/chat/chat_refusal.c %D%/chat/chat_refusal.h \
	%D%/chat/chat_request.c %D%/chat/chat_request.h \
	%D%/chat/chat_socket.c %D%/chat/chat_socket.h \
	%D%/chat/chat_upstream.c %D%/chat/chat_upstream.h \
	%D%/chat/completion.c %D%/chat/completion.h \
	%D%/chat/generation.c %D%/chat/generation.h \
	%D%/chat/generations.c %D%/chat/generations.h \
	%D%/chat/messages.c %D%/chat/messages.h \
	%D%/chat/messages_resume.c %D%/chat/messages_resume.h \
	%D%/chat/messages_test.c %D%/chat/messages_test.h \
	%D%/chat/notify.c %D%/chat/notify.h \
	%D%/chat/scribe.c %D%/chat/scribe.h \
	%D%/chat/sse_text.c %D%/chat/sse_text.h \
	%D%/chat/stream_log.c %D%/chat/stream_log.h \
	%D%/config/conf_tree.c %D%/config/conf_tree.h \
	%D%/config/config.c %D%/config/config.h \
	%D%/config/config_chat.c %D%/config/config_chat.h \
	%D%/config/config_users.c %D%/config/config_users.h \
	%D%/config/config_file.c \
	%D%/config/config_grants.def \
	%D%/config/config_limits.def \
	%D%/config/config_livekit.c %D%/config/config_livekit.h \
	%D%/config/config_messages.c %D%/config/config_messages.h \
	%D%/config/config_notice.c %D%/config/config_notice.h \
	%D%/config/config_plan.c %D%/config/config_plan.h \
	%D%/config/config_prices.c %D%/config/config_prices.h \
	%D%/config/config_relay.c %D%/config/config_relay.h \
	%D%/config/config_rules.c %D%/config/config_rules.h \
	%D%/config/config_session.c %D%/config/config_session.h \
	%D%/config/config_socketio.c %D%/config/config_socketio.h \
	%D%/config/config_store.c %D%/config/config_store.h \
	%D%/config/config_value.c %D%/config/config_value.h \
	%D%/tunnels/ask_queue.c %D%/tunnels/ask_queue.h \
	%D%/tunnels/control_asks.c %D%/tunnels/control_asks.h \
	%D%/limits/budget.c %D%/limits/budget.h \
	%D%/limits/budget_report.c %D%/limits/budget_report.h \
	%D%/tunnels/control_connection.c %D%/tunnels/control_connection.h \
	%D%/tunnels/control_ends.c %D%/tunnels/control_ends.h \
	%D%/tunnels/control_log.c %D%/tunnels/control_log.h \
	%D%/tunnels/control_operator.c %D%/tunnels/control_operator.h \
	%D%/tunnels/control_accept.c %D%/tunnels/control_accept.h \
	%D%/tunnels/control_peer.c %D%/tunnels/control_peer.h \
	%D%/tunnels/control_questions.c %D%/tunnels/control_questions.h \
	%D%/tunnels/control_server.c %D%/tunnels/control_server.h \
	%D%/http/http_client.c %D%/http/http_client.h \
	%D%/store/database.c %D%/store/database.h \
	%D%/tunnels/leases.c %D%/tunnels/leases.h \
	%D%/store/ledger.c %D%/store/ledger.h \
	%D%/hub/hub.c %D%/hub/hub.h \
	%D%/hub/jobs.c %D%/hub/jobs.h \
	%D%/limits/admission.c %D%/limits/admission.h \
	%D%/limits/buckets.c %D%/limits/buckets.h \
	%D%/limits/slots.c %D%/limits/slots.h \
	%D%/limits/subject_key.c %D%/limits/subject_key.h \
	%D%/limits/subjects.c %D%/limits/subjects.h \
	%D%/livekit/livekit.c %D%/livekit/livekit.h \
	%D%/livekit/livekit_token.c %D%/livekit/livekit_token.h \
	%D%/tunnels/control_jobs.c %D%/tunnels/control_jobs.h \
	%D%/tunnels/control_revocations.c \
	%D%/tunnels/control_revocations.h \
	%D%/tunnels/control_tunnel.c %D%/tunnels/control_tunnel.h \
	%D%/tunnels/lease_resume.c %D%/tunnels/lease_resume.h \
	%D%/tunnels/tunnel_probe.c %D%/tunnels/tunnel_probe.h \
	%D%/tunnels/tunnel_request.c %D%/tunnels/tunnel_request.h \
	%D%/limits/revocations.c %D%/limits/revocations.h \
	%D%/http/multipart.c %D%/http/multipart.h \
	%D%/openai/calls.c %D%/openai/calls.h \
	%D%/openai/openai.c %D%/openai/openai.h \
	%D%/openai/openai_ask.c %D%/openai/openai_ask.h \
	%D%/openai/openai_call.c %D%/openai/openai_call.h \
	%D%/tunnels/refusals.c %D%/tunnels/refusals.h \
	%D%/store/message_file.c %D%/store/message_file.h \
	%D%/http/parked.c %D%/http/parked.h \
	%D%/http/probe.c %D%/http/probe.h \
	%D%/http/probes.c %D%/http/probes.h \
	%D%/store/price.c %D%/store/price.h \
	%D%/http/request.c %D%/http/request.h \
	%D%/http/request_parse.c %D%/http/request_parse.h \
	%D%/tunnels/resolver.c %D%/tunnels/resolver.h \
	%D%/http/route.c %D%/http/route.h \
	%D%/openai/session_rules.c %D%/openai/session_rules.h \
	%D%/users/identity.c %D%/users/identity.h \
	%D%/users/jwks.c %D%/users/jwks.h \
	%D%/users/user_keys.c %D%/users/user_keys.h \
	%D%/signing_key.c %D%/signing_key.h \
	%D%/socketio/echo.c %D%/socketio/echo.h \
	%D%/socketio/eio_packet.c %D%/socketio/eio_packet.h \
	%D%/socketio/eio_queue.c %D%/socketio/eio_queue.h \
	%D%/socketio/eio_refusal.c %D%/socketio/eio_refusal.h \
	%D%/socketio/eio_server.c %D%/socketio/eio_server.h \
	%D%/socketio/eio_info.c %D%/socketio/eio_info.h \
	%D%/socketio/eio_session.c %D%/socketio/eio_session.h \
	%D%/socketio/eio_ws.c %D%/socketio/eio_ws.h \
	%D%/socketio/engineio.c %D%/socketio/engineio.h \
	%D%/socketio/sio_gather.c %D%/socketio/sio_gather.h \
	%D%/socketio/sio_packet.c %D%/socketio/sio_packet.h \
	%D%/socketio/sio_room.c %D%/socketio/sio_room.h \
	%D%/socketio/socketio.c %D%/socketio/socketio.h \
	%D%/store/store.c %D%/store/store.h \
	%D%/store/store_sqlite.c %D%/store/store_sqlite.h \
	%D%/store/store_sqlite_base.def \
	%D%/store/store_sqlite_account.c %D%/store/store_sqlite_account.h \
	%D%/store/store_sqlite_base.h \
	%D%/store/store_sqlite_lease.c %D%/store/store_sqlite_lease.h \
	%D%/store/store_sqlite_revocation.c \
	%D%/store/store_sqlite_revocation.h \
	%D%/store/store_sqlite_budget.c %D%/store/store_sqlite_budget.h \
	%D%/store/store_sqlite_chat.c %D%/store/store_sqlite_chat.h \
	%D%/store/store_sqlite_generation.c \
	%D%/store/store_sqlite_generation.h \
	%D%/store/store_sqlite_ticket.c %D%/store/store_sqlite_ticket.h \
	%D%/store/store_sqlite_usage.c %D%/store/store_sqlite_usage.h \
	%D%/tunnels/target.c %D%/tunnels/target.h \
	%D%/tickets/ticket.c %D%/tickets/ticket.h \
	%D%/tickets/tickets.c %D%/tickets/tickets.h \
	%D%/tunnels/endpoint.c %D%/tunnels/endpoint.h \
	%D%/tunnels/tunnel_route.c %D%/tunnels/tunnel_route.h \
	%D%/tickets/tunnel_ticket.c %D%/tickets/tunnel_ticket.h \
	%D%/config/url.c %D%/config/url.h \
	%D%/store/usage_event.c %D%/store/usage_event.h \
	%D%/store/usage_report.c %D%/store/usage_report.h

sbin_PROGRAMS += culvert-broker
culvert_broker_SOURCES = %D%/main.c
culvert_broker_LDADD = libbroker.a libcommon.a $(BROKER_LIBS)

culvertconfdir = $(sysconfdir)/culvert
dist_culvertconf_DATA = deploy/culvert.conf.sample
