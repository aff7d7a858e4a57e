# The try-it page: static files that any web server can serve.
webdir = $(pkgdatadir)/web
dist_web_DATA = \
	%D%/app.js \
	%D%/ask.js \
	%D%/chat.js \
	%D%/chat_view.js \
	%D%/events.js \
	%D%/icon.svg \
	%D%/index.html \
	%D%/player.js \
	%D%/realtime.js \
	%D%/snippets.js \
	%D%/style.css \
	%D%/token.js
