noinst_LIBRARIES += libbroker.a
libbroker_a_SOURCES = \
	%D%/access.c %D%/access.h \
	%D%/livekit.c %D%/livekit.h \
	%D%/livekit_token.c %D%/livekit_token.h

sbin_PROGRAMS += culvert-broker
culvert_broker_SOURCES = %D%/main.c
culvert_broker_LDADD = libbroker.a libcommon.a $(BROKER_LIBS)
