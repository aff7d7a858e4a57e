noinst_LIBRARIES += libctl.a
libctl_a_SOURCES = \
	%D%/client.c %D%/client.h \
	%D%/advice.c %D%/advice.h \
	%D%/doctor.c %D%/doctor.h \
	%D%/show.c %D%/show.h \
	%D%/table.c %D%/table.h \
	%D%/web.c %D%/web.h

sbin_PROGRAMS += culvertctl
culvertctl_SOURCES = %D%/main.c
culvertctl_LDADD = libctl.a libcommon.a $(CURL_LIBS) $(COMMON_LIBS)
