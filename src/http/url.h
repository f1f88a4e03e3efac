/*
 * http/url.h - request paths: splitting, decoding, and the normal form that policy and routing see.
 * Trust: paths were written by strangers; what cannot be made normal is refused, never guessed.
 */
#ifndef LT_HTTP_URL_H
#define LT_HTTP_URL_H

#include "base/arena.h"

struct lt_url_parts {
    lt_str path;
    lt_str query;    /* without '?' */
    lt_str fragment; /* without '#' */
    bool has_query;
    bool has_fragment;
};

/* Splits "path?query#fragment"; slices of the input. */
struct lt_url_parts lt_url_split(lt_str target);

struct lt_url {
    bool is_https;
    lt_str authority;
    lt_str path; /* with its query, without a fragment; empty, or begins with '/' or '?' */
};

/*
 * "http://host:port/path?query", or https, as a Location or the like has it; slices of the input.
 * False: another scheme, no host or one with userinfo, or bytes that no URL has.
 */
bool lt_url_absolute(lt_str text, struct lt_url *ret_url);

/* The host of an authority, "a.example:8080" or "[::1]:80": without port and brackets. */
lt_str lt_url_host(lt_str authority);

/* HttpConnectionManager.path_with_escaped_slashes_action */
typedef enum {
    LT_URL_SLASHES_KEEP,
    LT_URL_SLASHES_REJECT,
    LT_URL_SLASHES_UNESCAPE_AND_REDIRECT,
    LT_URL_SLASHES_UNESCAPE_AND_FORWARD,
} lt_url_slashes;

struct lt_url_normal_opts {
    bool normalize;                 /* normalize_path: RFC 3986 section 6.2.2, with '\' as '/' */
    bool merge_slashes;             /* of the path, after all else */
    lt_url_slashes escaped_slashes; /* %2F and %5C; done first */
};

typedef enum {
    LT_URL_UNCHANGED,
    LT_URL_CHANGED,
    LT_URL_REDIRECT, /* changed by UNESCAPE_AND_REDIRECT: answer 307 with the new path */
    LT_URL_REJECT,   /* 400: a forbidden escape, a fragment, no absolute path, or no room */
} lt_url_outcome;

/*
 * The normal form of a path with its query (the query is left alone). UNCHANGED costs one pass and
 * no memory: *ret is the input then. Otherwise *ret is in the arena, which gives four times the
 * path for it or the path is rejected.
 */
lt_url_outcome lt_url_normalize(lt_str path, const struct lt_url_normal_opts *opts,
                                struct lt_arena *arena, lt_str *ret);

/*
 * Decodes %XX (and '+' as a blank when plus_is_blank) into the arena. LT_E_BAD on a broken escape
 * or a NUL, LT_E_LIMIT when it has no room.
 */
LT_MUST lt_rc lt_url_decode(lt_str text, bool plus_is_blank, struct lt_arena *arena, lt_str *ret);

/*
 * Takes the next "name=value" of a query; false at the end. Not decoded. Start with *rest = the
 * query.
 */
bool lt_url_query_next(lt_str *rest, lt_str *ret_name, lt_str *ret_value);
/* Writes %XX there, three bytes; returns where they end. */
char *lt_percent_put(char *to, char c);
/* %XX for all but letters, digits and "-_.~". The arena must have room. */
lt_str lt_url_encode(lt_str text, struct lt_arena *arena);
/*
 * A path with its query, without a parameter, or with one value of it in place of all others.
 * Nothing is decoded or encoded; a fragment goes. The arena must have room.
 */
lt_str lt_url_query_remove(lt_str target, lt_str name, struct lt_arena *arena);
lt_str lt_url_query_set(lt_str target, lt_str name, lt_str value, struct lt_arena *arena);
lt_str lt_url_query_add(lt_str target, lt_str name, lt_str value, struct lt_arena *arena);
/*
 * The first value of a parameter, decoded into the arena; ptr NULL when it is absent or broken.
 * "?x" gives "".
 */
lt_str lt_url_query_get(lt_str query, const char *name, struct lt_arena *arena);

#endif
