# CULVERT_NEED(VAR, MODULE, DEBIAN-PACKAGE): require a library.
# All that are missing are collected, and CULVERT_NEED_END names them at once.
AC_DEFUN([CULVERT_NEED], [
PKG_CHECK_MODULES([$1], [$2], [], [
	culvert_missing="$culvert_missing $3"
	AC_MSG_WARN([$2 is missing: install the package $3])])
])

AC_DEFUN([CULVERT_NEED_END], [
AS_IF([test -n "$culvert_missing"],
    [AC_MSG_ERROR([missing libraries; try: apt-get install$culvert_missing])])
])

# CULVERT_WANT(VAR, MODULE, DEBIAN-PACKAGE): a library that only tests need.
AC_DEFUN([CULVERT_WANT], [
PKG_CHECK_MODULES([$1], [$2], [have_$1=yes], [
	have_$1=no
	AC_MSG_WARN([$2 is missing, tests that need it are left out: install the package $3])])
])
