noinst_LIBRARIES += libbroker.a
libbroker_a_SOURCES = \
	%D%/access.c %D%/access.h

sbin_PROGRAMS += culvert-broker
culvert_broker_SOURCES = %D%/main.c
culvert_broker_LDADD = libbroker.a libcommon.a $(BROKER_LIBS)
