noinst_LIBRARIES += libctl.a
libctl_a_SOURCES = \
	%D%/client.c %D%/client.h \
	%D%/show.c %D%/show.h \
	%D%/table.c %D%/table.h

sbin_PROGRAMS += culvertctl
culvertctl_SOURCES = %D%/main.c
culvertctl_LDADD = libctl.a libcommon.a $(COMMON_LIBS)
