TEST_EXTENSIONS = .sh .mjs
TAP_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) \
	$(top_srcdir)/build-aux/tap-driver.sh
LOG_DRIVER = $(TAP_DRIVER)
SH_LOG_DRIVER = $(TAP_DRIVER)
MJS_LOG_DRIVER = $(TAP_DRIVER)
MJS_LOG_COMPILER = $(top_srcdir)/tests/node
AM_TESTS_ENVIRONMENT = \
	CMOCKA_MESSAGE_OUTPUT=TAP; export CMOCKA_MESSAGE_OUTPUT; \
	top_srcdir='$(abs_top_srcdir)'; export top_srcdir; \
	top_builddir='$(abs_top_builddir)'; export top_builddir;

# Whatever has no _LDADD of its own (unit tests, fuzz targets) links this.
LDADD = libbroker.a libtunnel.a libctl.a libcommon.a \
	$(CMOCKA_LIBS) $(BROKER_LIBS) $(TUNNEL_LIBS)

# A unit test is one line: its source is tests/unit/NAME.c.
unit_tests = \
	%D%/unit/test_accept_pool \
	%D%/unit/test_access \
	%D%/unit/test_address \
	%D%/unit/test_admission \
	%D%/unit/test_anam_quota \
	%D%/unit/test_anam_route \
	%D%/unit/test_anam_session \
	%D%/unit/test_anam_token \
	%D%/unit/test_anam_vendor \
	%D%/unit/test_answer \
	%D%/unit/test_asks \
	%D%/unit/test_broker_link \
	%D%/unit/test_buckets \
	%D%/unit/test_budget \
	%D%/unit/test_buf \
	%D%/unit/test_caller \
	%D%/unit/test_calls \
	%D%/unit/test_cause \
	%D%/unit/test_chat_cost \
	%D%/unit/test_chat_http \
	%D%/unit/test_chat_json \
	%D%/unit/test_chat_ops \
	%D%/unit/test_chat_request \
	%D%/unit/test_chat_socket \
	%D%/unit/test_clock \
	%D%/unit/test_completion \
	%D%/unit/test_conf_tree \
	%D%/unit/test_config \
	%D%/unit/test_config_anam \
	%D%/unit/test_config_chat \
	%D%/unit/test_config_livekit \
	%D%/unit/test_config_messages \
	%D%/unit/test_config_notice \
	%D%/unit/test_config_plan \
	%D%/unit/test_config_relay \
	%D%/unit/test_config_session \
	%D%/unit/test_config_socketio \
	%D%/unit/test_config_users \
	%D%/unit/test_config_value \
	%D%/unit/test_control_asks \
	%D%/unit/test_control_operator \
	%D%/unit/test_control_server \
	%D%/unit/test_control_tunnel \
	%D%/unit/test_crypt \
	%D%/unit/test_database \
	%D%/unit/test_dial \
	%D%/unit/test_dialect \
	%D%/unit/test_echo \
	%D%/unit/test_eio_packet \
	%D%/unit/test_eio_queue \
	%D%/unit/test_eio_ws \
	%D%/unit/test_err \
	%D%/unit/test_flight \
	%D%/unit/test_flow \
	%D%/unit/test_generations \
	%D%/unit/test_held \
	%D%/unit/test_http \
	%D%/unit/test_http_client \
	%D%/unit/test_http_head \
	%D%/unit/test_http_stream \
	%D%/unit/test_hub \
	%D%/unit/test_jobs \
	%D%/unit/test_identity \
	%D%/unit/test_json \
	%D%/unit/test_json_peek \
	%D%/unit/test_jwks \
	%D%/unit/test_jwt \
	%D%/unit/test_key_mask \
	%D%/unit/test_leases \
	%D%/unit/test_ledger \
	%D%/unit/test_linger \
	%D%/unit/test_livekit \
	%D%/unit/test_livekit_token \
	%D%/unit/test_log \
	%D%/unit/test_loop \
	%D%/unit/test_message_file \
	%D%/unit/test_message_log \
	%D%/unit/test_multipart \
	%D%/unit/test_openai \
	%D%/unit/test_parked \
	%D%/unit/test_pin \
	%D%/unit/test_price \
	%D%/unit/test_probes \
	%D%/unit/test_refusals \
	%D%/unit/test_relay \
	%D%/unit/test_reply \
	%D%/unit/test_request \
	%D%/unit/test_request_parse \
	%D%/unit/test_resolver \
	%D%/unit/test_revocations \
	%D%/unit/test_route \
	%D%/unit/test_scribe \
	%D%/unit/test_secret \
	%D%/unit/test_service \
	%D%/unit/test_session \
	%D%/unit/test_session_open \
	%D%/unit/test_session_rules \
	%D%/unit/test_signing_key \
	%D%/unit/test_sim_anam \
	%D%/unit/test_sim_chat \
	%D%/unit/test_sim_knobs \
	%D%/unit/test_sim_openai \
	%D%/unit/test_sio_gather \
	%D%/unit/test_sio_packet \
	%D%/unit/test_sio_room \
	%D%/unit/test_slots \
	%D%/unit/test_socketio \
	%D%/unit/test_sse_text \
	%D%/unit/test_store_sqlite \
	%D%/unit/test_str \
	%D%/unit/test_stream \
	%D%/unit/test_stream_log \
	%D%/unit/test_subjects \
	%D%/unit/test_table \
	%D%/unit/test_target \
	%D%/unit/test_text_chat \
	%D%/unit/test_thread \
	%D%/unit/test_ticket \
	%D%/unit/test_ticket_race \
	%D%/unit/test_transform \
	%D%/unit/test_tunnel_route \
	%D%/unit/test_tunnel_ticket \
	%D%/unit/test_url \
	%D%/unit/test_usage_event \
	%D%/unit/test_usage_report \
	%D%/unit/test_user_keys \
	%D%/unit/test_vendor_event \
	%D%/unit/test_wire \
	%D%/unit/test_ws_frame
EXTRA_DIST += %D%/unit/config_text.h %D%/unit/test_keys.h

# Those in which threads meet, for ThreadSanitizer: deploy/check --tests threads.
thread_tests = \
	%D%/unit/test_accept_pool \
	%D%/unit/test_buckets \
	%D%/unit/test_calls \
	%D%/unit/test_chat_socket \
	%D%/unit/test_conf_tree \
	%D%/unit/test_control_asks \
	%D%/unit/test_control_operator \
	%D%/unit/test_control_server \
	%D%/unit/test_control_tunnel \
	%D%/unit/test_database \
	%D%/unit/test_flight \
	%D%/unit/test_http_client \
	%D%/unit/test_http_stream \
	%D%/unit/test_hub \
	%D%/unit/test_jobs \
	%D%/unit/test_leases \
	%D%/unit/test_ledger \
	%D%/unit/test_message_file \
	%D%/unit/test_parked \
	%D%/unit/test_request \
	%D%/unit/test_resolver \
	%D%/unit/test_revocations \
	%D%/unit/test_scribe \
	%D%/unit/test_signing_key \
	%D%/unit/test_slots \
	%D%/unit/test_user_keys

# What lets scripts speak on the control socket.
check_PROGRAMS += %D%/lib/packets
%C%_lib_packets_LDADD =

# What tests share.
clock_double = %D%/unit/clock_double.c %D%/unit/clock_double.h
control_peers = %D%/unit/control_peers.c %D%/unit/control_peers.h
engineio_double = %D%/unit/engineio_double.c %D%/unit/engineio_double.h
relay_text = %D%/unit/relay_text.c %D%/unit/relay_text.h
request_double = %D%/unit/request_double.c %D%/unit/request_double.h
session_peers = %D%/unit/session_peers.c %D%/unit/session_peers.h \
	$(clock_double)
ticket_store = %D%/unit/ticket_store.c %D%/unit/ticket_store.h
tunnel_ask = %D%/unit/tunnel_ask.c %D%/unit/tunnel_ask.h
vendor_double = %D%/unit/vendor_double.c %D%/unit/vendor_double.h
web_server = %D%/unit/web_server.c %D%/unit/web_server.h
%C%_unit_test_config_messages_SOURCES = %D%/unit/test_config_messages.c \
	$(relay_text)
%C%_unit_test_config_relay_SOURCES = %D%/unit/test_config_relay.c \
	$(relay_text)
%C%_unit_test_config_session_SOURCES = %D%/unit/test_config_session.c \
	$(relay_text)
%C%_unit_test_admission_SOURCES = %D%/unit/test_admission.c $(request_double)
%C%_unit_test_anam_route_SOURCES = %D%/unit/test_anam_route.c $(tunnel_ask)
%C%_unit_test_anam_vendor_SOURCES = %D%/unit/test_anam_vendor.c \
	$(vendor_double)
%C%_unit_test_broker_link_SOURCES = %D%/unit/test_broker_link.c $(clock_double)
%C%_unit_test_caller_SOURCES = %D%/unit/test_caller.c $(ticket_store) \
	$(request_double)
%C%_unit_test_chat_json_SOURCES = %D%/unit/test_chat_json.c $(ticket_store)
%C%_unit_test_chat_http_SOURCES = %D%/unit/test_chat_http.c $(ticket_store) \
	$(request_double)
%C%_unit_test_chat_ops_SOURCES = %D%/unit/test_chat_ops.c $(ticket_store)
%C%_unit_test_chat_socket_SOURCES = %D%/unit/test_chat_socket.c \
	$(ticket_store)
%C%_unit_test_control_operator_SOURCES = %D%/unit/test_control_operator.c \
	$(control_peers)
%C%_unit_test_control_server_SOURCES = %D%/unit/test_control_server.c \
	$(control_peers)
%C%_unit_test_control_tunnel_SOURCES = %D%/unit/test_control_tunnel.c \
	$(control_peers)
%C%_unit_test_echo_SOURCES = %D%/unit/test_echo.c $(engineio_double)
%C%_unit_test_http_client_SOURCES = %D%/unit/test_http_client.c \
	$(vendor_double)
%C%_unit_test_identity_SOURCES = %D%/unit/test_identity.c $(ticket_store) \
	$(request_double)
%C%_unit_test_calls_SOURCES = %D%/unit/test_calls.c $(ticket_store)
%C%_unit_test_livekit_SOURCES = %D%/unit/test_livekit.c $(request_double)
%C%_unit_test_linger_SOURCES = %D%/unit/test_linger.c $(clock_double)
%C%_unit_test_openai_SOURCES = %D%/unit/test_openai.c $(ticket_store) \
	$(request_double)
%C%_unit_test_route_SOURCES = %D%/unit/test_route.c $(request_double)
%C%_unit_test_log_SOURCES = %D%/unit/test_log.c $(clock_double)
%C%_unit_test_session_SOURCES = %D%/unit/test_session.c $(session_peers)
%C%_unit_test_session_open_SOURCES = %D%/unit/test_session_open.c \
	$(session_peers)
%C%_unit_test_socketio_SOURCES = %D%/unit/test_socketio.c $(engineio_double)
%C%_unit_test_parked_SOURCES = %D%/unit/test_parked.c $(web_server)
%C%_unit_test_request_SOURCES = %D%/unit/test_request.c $(web_server)
%C%_unit_test_ticket_SOURCES = %D%/unit/test_ticket.c $(ticket_store)
%C%_unit_test_tunnel_route_SOURCES = %D%/unit/test_tunnel_route.c $(tunnel_ask)
%C%_unit_test_tunnel_ticket_SOURCES = %D%/unit/test_tunnel_ticket.c \
	$(ticket_store) $(tunnel_ask)
%C%_unit_test_user_keys_SOURCES = %D%/unit/test_user_keys.c $(clock_double)

%C%_unit_test_log_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=poll

# What every backend of the store has to pass.
%C%_unit_test_store_sqlite_SOURCES = %D%/unit/test_store_sqlite.c \
	%D%/unit/store_conformance.c %D%/unit/store_conformance.h \
	%D%/unit/store_conformance_budget.c \
	%D%/unit/store_conformance_chat.c \
	%D%/unit/store_conformance_money.c

# Integration and client tests: Node.js scripts that speak TAP.  By hand:
# top_builddir=BUILD TEST_ONLY=REGEX tests/node tests/integration/NAME.mjs
integration_tests = \
	%D%/integration/anam.mjs \
	%D%/integration/asks.mjs \
	%D%/integration/budget.mjs \
	%D%/integration/bulk.mjs \
	%D%/integration/chat.mjs \
	%D%/integration/chat_kill.mjs \
	%D%/integration/chats.mjs \
	%D%/integration/ctl.mjs \
	%D%/integration/doctor.mjs \
	%D%/integration/engineio.mjs \
	%D%/integration/frames.mjs \
	%D%/integration/handshake.mjs \
	%D%/integration/faults.mjs \
	%D%/integration/hostile.mjs \
	%D%/integration/hostile_http.mjs \
	%D%/integration/hostile_sockets.mjs \
	%D%/integration/limits.mjs \
	%D%/integration/livekit.mjs \
	%D%/integration/messages.mjs \
	%D%/integration/openai.mjs \
	%D%/integration/processes.mjs \
	%D%/integration/secrets.mjs \
	%D%/integration/rates.mjs \
	%D%/integration/resume.mjs \
	%D%/integration/revoke.mjs \
	%D%/integration/sim.mjs \
	%D%/integration/socketio.mjs \
	%D%/integration/tickets.mjs \
	%D%/integration/up.mjs \
	%D%/integration/usage.mjs \
	%D%/integration/calls.mjs \
	%D%/integration/credentials.mjs \
	%D%/integration/users.mjs \
	%D%/integration/vendors.mjs

# All at once, for a while; `make chaos' runs the long form.
chaos_tests = %D%/chaos/chaos.mjs

client_tests = \
	%D%/clients/agents.mjs \
	%D%/clients/anam.mjs \
	%D%/clients/browser.mjs \
	%D%/clients/chat.mjs \
	%D%/clients/chat_pages.mjs \
	%D%/clients/keys.mjs \
	%D%/clients/livekit.mjs \
	%D%/clients/openai.mjs \
	%D%/clients/seeds.mjs \
	%D%/clients/users.mjs \
	%D%/clients/ws.mjs

# A fuzz target is one line here, two below: libFuzzer's main with
# --enable-fuzzing, else tests/fuzz/replay.c, which replays the corpus in
# tests/fuzz/corpus/NAME, so that `make check' always runs every known input.
fuzzers = \
	%D%/fuzz/fuzz_access \
	%D%/fuzz/fuzz_anam \
	%D%/fuzz/fuzz_caller \
	%D%/fuzz/fuzz_chat_request \
	%D%/fuzz/fuzz_completion \
	%D%/fuzz/fuzz_config \
	%D%/fuzz/fuzz_dialect \
	%D%/fuzz/fuzz_eio_payload \
	%D%/fuzz/fuzz_event_id \
	%D%/fuzz/fuzz_fcgi \
	%D%/fuzz/fuzz_flow \
	%D%/fuzz/fuzz_http_head \
	%D%/fuzz/fuzz_json_peek \
	%D%/fuzz/fuzz_jwks \
	%D%/fuzz/fuzz_jwt \
	%D%/fuzz/fuzz_ledger \
	%D%/fuzz/fuzz_livekit \
	%D%/fuzz/fuzz_message_log \
	%D%/fuzz/fuzz_multipart \
	%D%/fuzz/fuzz_pin \
	%D%/fuzz/fuzz_request \
	%D%/fuzz/fuzz_session \
	%D%/fuzz/fuzz_sio_packet \
	%D%/fuzz/fuzz_target \
	%D%/fuzz/fuzz_text \
	%D%/fuzz/fuzz_ticket \
	%D%/fuzz/fuzz_transform \
	%D%/fuzz/fuzz_vendor_event \
	%D%/fuzz/fuzz_wire

if ENABLE_FUZZING
check_PROGRAMS += $(fuzzers)
fuzz_main =
else
check_PROGRAMS += $(fuzzers)
fuzz_main = %D%/fuzz/replay.c
if HAVE_CMOCKA
check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
TESTS += %D%/deploy.sh %D%/layers.sh %D%/fuzz/replay.sh \
	%D%/integration/test_cgi.sh $(integration_tests) $(client_tests) \
	$(chaos_tests)
endif

%C%_fuzz_fuzz_access_SOURCES = %D%/fuzz/fuzz_access.c $(fuzz_main)
%C%_fuzz_fuzz_access_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_anam_SOURCES = %D%/fuzz/fuzz_anam.c $(fuzz_main)
%C%_fuzz_fuzz_anam_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_caller_SOURCES = %D%/fuzz/fuzz_caller.c $(fuzz_main) \
	$(request_double)
%C%_fuzz_fuzz_caller_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_chat_request_SOURCES = %D%/fuzz/fuzz_chat_request.c $(fuzz_main)
%C%_fuzz_fuzz_chat_request_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_completion_SOURCES = %D%/fuzz/fuzz_completion.c $(fuzz_main)
%C%_fuzz_fuzz_completion_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_config_SOURCES = %D%/fuzz/fuzz_config.c $(fuzz_main)
%C%_fuzz_fuzz_config_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_dialect_SOURCES = %D%/fuzz/fuzz_dialect.c $(fuzz_main)
%C%_fuzz_fuzz_dialect_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_eio_payload_SOURCES = %D%/fuzz/fuzz_eio_payload.c $(fuzz_main)
%C%_fuzz_fuzz_eio_payload_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_event_id_SOURCES = %D%/fuzz/fuzz_event_id.c $(fuzz_main)
%C%_fuzz_fuzz_event_id_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_fcgi_SOURCES = %D%/fuzz/fuzz_fcgi.c $(fuzz_main) \
	$(web_server)
%C%_fuzz_fuzz_fcgi_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_flow_SOURCES = %D%/fuzz/fuzz_flow.c $(fuzz_main)
%C%_fuzz_fuzz_flow_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_http_head_SOURCES = %D%/fuzz/fuzz_http_head.c $(fuzz_main)
%C%_fuzz_fuzz_http_head_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_json_peek_SOURCES = %D%/fuzz/fuzz_json_peek.c $(fuzz_main)
%C%_fuzz_fuzz_json_peek_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_jwks_SOURCES = %D%/fuzz/fuzz_jwks.c $(fuzz_main)
%C%_fuzz_fuzz_jwks_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_jwt_SOURCES = %D%/fuzz/fuzz_jwt.c $(fuzz_main)
%C%_fuzz_fuzz_jwt_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_ledger_SOURCES = %D%/fuzz/fuzz_ledger.c $(fuzz_main)
%C%_fuzz_fuzz_ledger_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_livekit_SOURCES = %D%/fuzz/fuzz_livekit.c $(fuzz_main)
%C%_fuzz_fuzz_livekit_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_message_log_SOURCES = %D%/fuzz/fuzz_message_log.c $(fuzz_main)
%C%_fuzz_fuzz_message_log_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_multipart_SOURCES = %D%/fuzz/fuzz_multipart.c $(fuzz_main)
%C%_fuzz_fuzz_multipart_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_pin_SOURCES = %D%/fuzz/fuzz_pin.c $(fuzz_main)
%C%_fuzz_fuzz_pin_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_request_SOURCES = %D%/fuzz/fuzz_request.c $(fuzz_main)
%C%_fuzz_fuzz_request_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_session_SOURCES = %D%/fuzz/fuzz_session.c $(fuzz_main)
%C%_fuzz_fuzz_session_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_sio_packet_SOURCES = %D%/fuzz/fuzz_sio_packet.c $(fuzz_main)
%C%_fuzz_fuzz_sio_packet_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_target_SOURCES = %D%/fuzz/fuzz_target.c $(fuzz_main)
%C%_fuzz_fuzz_target_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_text_SOURCES = %D%/fuzz/fuzz_text.c $(fuzz_main)
%C%_fuzz_fuzz_text_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_ticket_SOURCES = %D%/fuzz/fuzz_ticket.c $(fuzz_main)
%C%_fuzz_fuzz_ticket_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_transform_SOURCES = %D%/fuzz/fuzz_transform.c $(fuzz_main)
%C%_fuzz_fuzz_transform_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_vendor_event_SOURCES = %D%/fuzz/fuzz_vendor_event.c $(fuzz_main)
%C%_fuzz_fuzz_vendor_event_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)
%C%_fuzz_fuzz_wire_SOURCES = %D%/fuzz/fuzz_wire.c $(fuzz_main)
%C%_fuzz_fuzz_wire_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_LDFLAGS)

EXTRA_DIST += %D%/fuzz/replay.sh %D%/fuzz/replay.c %D%/fuzz/corpus \
	%D%/deploy.sh %D%/integration/test_cgi.sh %D%/layers.sh %D%/node

EXTRA_DIST += $(integration_tests) $(client_tests) $(chaos_tests) \
	%D%/chaos/books.mjs %D%/chaos/faults.mjs %D%/chaos/keep.mjs %D%/chaos/load.mjs \
	%D%/clients/.npmrc %D%/clients/package.json \
	%D%/clients/package-lock.json \
	%D%/clients/lib/anam.mjs %D%/clients/lib/beta-talk.mjs \
	%D%/clients/lib/browser.mjs %D%/clients/lib/hybrid.js \
	%D%/clients/lib/openai-talk.mjs %D%/clients/lib/setup.mjs \
	%D%/lib/chat.mjs %D%/lib/fcgi.mjs %D%/lib/flutter.mjs \
	%D%/lib/harness.mjs %D%/lib/hostile.mjs %D%/lib/rawws.mjs %D%/lib/servers.mjs \
	%D%/lib/harness.mjs %D%/lib/issuer.mjs %D%/lib/rawws.mjs %D%/lib/servers.mjs \
	%D%/lib/sse.mjs %D%/lib/tap.mjs

# No other program is built for them.
thread-tests: $(thread_tests)
check-threads: thread-tests
	$(MAKE) $(AM_MAKEFLAGS) check-TESTS check_PROGRAMS= \
		TESTS='$(thread_tests)'

# The long forms.  FUZZ_SECONDS and CHAOS_SECONDS say how long.
fuzz:
	$(srcdir)/tools/fuzz

chaos: all
	$(MAKE) $(AM_MAKEFLAGS) check TESTS=
	$(AM_TESTS_ENVIRONMENT) \
	CHAOS_SECONDS=$${CHAOS_SECONDS:-600} \
	CHAOS_JSON=$${CHAOS_JSON:-chaos.json} \
	$(srcdir)/tests/node $(srcdir)/tests/chaos/chaos.mjs

# cppcheck and clang-tidy over all C.
analyze: config.h
	$(srcdir)/tools/analyze . $(DEFS) -DSYSCONFDIR='"$(sysconfdir)"' \
		-DRUNSTATEDIR='"$(runstatedir)"' $(FCGI_CFLAGS) $(CURL_CFLAGS) \
		$(JANSSON_CFLAGS) $(LWS_CFLAGS) $(OPENSSL_CFLAGS) \
		$(CONFUSE_CFLAGS) $(SQLITE_CFLAGS) $(SYSTEMD_CFLAGS) \
		$(CMOCKA_CFLAGS) $(MHD_CFLAGS)
.PHONY: thread-tests check-threads fuzz chaos analyze
