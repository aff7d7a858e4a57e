# What brings culvert up: the two commands, systemd's units, and the parts of
# a web server's configuration.  *.in are filled in at build time.
EXTRA_DIST += %D%/check %D%/install %D%/lib.sh %D%/packages %D%/up

culvert_rundir = $(runstatedir)/culvert
fill_in = $(AM_V_GEN)$(MKDIR_P) $(@D) && $(SED) \
	-e 's|@sbindir[@]|$(sbindir)|g' \
	-e 's|@sysconfdir[@]|$(sysconfdir)|g' \
	-e 's|@rundir[@]|$(culvert_rundir)|g' \
	-e 's|@broker_socket[@]|$(culvert_rundir)/broker.sock|g' \
	-e 's|@tunnel_socket[@]|$(culvert_rundir)/tunnel.sock|g' \
	-e 's|@web_group[@]|$(web_group)|g'

units = \
	%D%/systemd/culvert-broker.service \
	%D%/systemd/culvert-broker.socket \
	%D%/systemd/culvert-control.socket \
	%D%/systemd/culvert-tunnel.service \
	%D%/systemd/culvert-tunnel.socket \
	%D%/systemd/culvert-tunnel@.service

examples = \
	%D%/apache.conf.example \
	%D%/lighttpd.conf.example \
	%D%/nginx.conf.example

$(units): %: %.in Makefile
	$(fill_in) $< >$@.tmp && mv $@.tmp $@

$(examples): %.example: %.in Makefile
	$(fill_in) $< >$@.tmp && mv $@.tmp $@

%D%/systemd/culvert.conf: %D%/systemd/culvert.sysusers
	$(AM_V_GEN)$(MKDIR_P) $(@D) && cp $< $@

examplesdir = $(docdir)/examples
examples_DATA = $(examples)

if HAVE_SYSTEMD_UNITS
systemdsystemunit_DATA = $(units)
sysusersdir = $(prefix)/lib/sysusers.d
sysusers_DATA = %D%/systemd/culvert.conf
endif

EXTRA_DIST += $(units:=.in) %D%/systemd/culvert.sysusers \
	%D%/apache.conf.in %D%/lighttpd.conf.in %D%/nginx.conf.in
CLEANFILES += $(units) $(examples) %D%/systemd/culvert.conf
