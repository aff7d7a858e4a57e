# The simulated vendors.  libsim.a is what of them is pure, for unit tests.
noinst_LIBRARIES += %D%/libsim.a
%C%_libsim_a_SOURCES = \
	%D%/anam.c %D%/anam.h \
	%D%/anam_api.c %D%/anam_api.h \
	%D%/chat.c %D%/chat.h \
	%D%/ephemeral.c %D%/ephemeral.h \
	%D%/fault.c %D%/fault.h \
	%D%/multipart.c %D%/multipart.h \
	%D%/openai.c %D%/openai.h %D%/openai_int.h \
	%D%/openai_audio.c \
	%D%/openai_items.c \
	%D%/openai_response.c \
	%D%/openai_session.c \
	%D%/reply.c %D%/reply.h \
	%D%/request.c %D%/request.h \
	%D%/script.c %D%/script.h \
	%D%/sdp.c %D%/sdp.h \
	%D%/tone.c %D%/tone.h

if HAVE_MHD
noinst_PROGRAMS += %D%/culvert-sim
endif
%C%_culvert_sim_SOURCES = \
	%D%/app_anam.c \
	%D%/app_echo.c \
	%D%/app_openai.c \
	%D%/chat_api.c %D%/chat_api.h \
	%D%/front.c %D%/front.h \
	%D%/http.c %D%/http.h \
	%D%/journal.c %D%/journal.h \
	%D%/main.c \
	%D%/openai_api.c %D%/openai_api.h \
	%D%/options.c %D%/options.h \
	%D%/pacer.c %D%/pacer.h \
	%D%/raw.c %D%/raw.h \
	%D%/routes.c %D%/routes.h \
	%D%/stream.c %D%/stream.h \
	%D%/ws.c %D%/ws.h
%C%_culvert_sim_LDADD = %D%/libsim.a libcommon.a \
	$(MHD_LIBS) $(LWS_LIBS) $(COMMON_LIBS) -lm

# Unit tests of what is pure: they stand in tests/local.mk with the others.
tests_unit_test_sim_anam_LDADD = %D%/libsim.a $(LDADD) -lm
tests_unit_test_sim_chat_LDADD = %D%/libsim.a $(LDADD) -lm
tests_unit_test_sim_knobs_LDADD = %D%/libsim.a $(LDADD) -lm
tests_unit_test_sim_openai_LDADD = %D%/libsim.a $(LDADD) -lm

EXTRA_DIST += %D%/README.md
