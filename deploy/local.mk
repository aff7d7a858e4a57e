EXTRA_DIST += %D%/check %D%/install %D%/lib.sh %D%/packages
