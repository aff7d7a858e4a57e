EXTRA_DIST += %D%/check %D%/install %D%/lib.sh %D%/lighttpd.conf.in \
	%D%/packages %D%/up
