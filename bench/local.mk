# Load for `make bench'; built only then.
EXTRA_PROGRAMS = %D%/ws_load
%C%_ws_load_SOURCES = %D%/ws_load.c
%C%_ws_load_LDADD = libtunnel.a libcommon.a $(TUNNEL_LIBS)
CLEANFILES += $(EXTRA_PROGRAMS)
EXTRA_DIST += %D%/polls.mjs %D%/run.mjs

bench: $(EXTRA_PROGRAMS) culvert-broker culvert-tunnel
	top_srcdir='$(abs_top_srcdir)' top_builddir='$(abs_top_builddir)' \
		$(top_srcdir)/tests/node $(srcdir)/bench/run.mjs
	top_srcdir='$(abs_top_srcdir)' top_builddir='$(abs_top_builddir)' \
		$(top_srcdir)/tests/node $(srcdir)/bench/polls.mjs
.PHONY: bench
