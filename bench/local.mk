# Load for `make bench'; built only then.
EXTRA_PROGRAMS = %D%/chat_load %D%/ws_load
%C%_chat_load_SOURCES = %D%/chat_load.c
%C%_chat_load_LDADD = libcommon.a $(COMMON_LIBS)
%C%_ws_load_SOURCES = %D%/ws_load.c
%C%_ws_load_LDADD = libtunnel.a libcommon.a $(TUNNEL_LIBS)
CLEANFILES += $(EXTRA_PROGRAMS)
benches = %D%/run.mjs %D%/polls.mjs %D%/chat.mjs
EXTRA_DIST += $(benches)

if HAVE_MHD
bench_vendor = tests/sim/culvert-sim
endif
bench: $(EXTRA_PROGRAMS) culvert-broker culvert-tunnel $(bench_vendor)
	for bench in $(benches); do \
		top_srcdir='$(abs_top_srcdir)' \
		top_builddir='$(abs_top_builddir)' $(top_srcdir)/tests/node \
		$(srcdir)/$$bench || exit; \
	done
.PHONY: bench
