/*
 * base/version.h - the version of all three programs; meson.build says the same.
 */
#ifndef LT_BASE_VERSION_H
#define LT_BASE_VERSION_H

#define LT_VERSION "0.1.0"

#endif
