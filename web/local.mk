webdir = $(pkgdatadir)/web
dist_web_DATA = %D%/index.html
