/*
 * http/http.h - words that all versions of HTTP share: methods, status codes, limits.
 */
#ifndef LT_HTTP_HTTP_H
#define LT_HTTP_HTTP_H

#include "base/str.h"

/* Methods that somebody treats specially; any other token is LT_METHOD_OTHER and passes. */
typedef enum {
    LT_METHOD_OTHER,
    LT_METHOD_GET,
    LT_METHOD_HEAD,
    LT_METHOD_POST,
    LT_METHOD_PUT,
    LT_METHOD_DELETE,
    LT_METHOD_CONNECT,
    LT_METHOD_OPTIONS,
    LT_METHOD_TRACE,
    LT_METHOD_PATCH,
} lt_http_method;

/* Case-sensitive (RFC 9110 section 9.1). */
lt_http_method lt_http_method_of(lt_str token);
/* "get": another method than GET for us and for policy, the same for some servers. */
bool lt_http_method_is_misspelled(lt_str token);

/* The registered reason phrase ("Not Found"), "Unknown" when there is none. Never NULL. */
const char *lt_http_reason(unsigned status);

/* Classes of bytes, for scanners that look at each. */
enum { LT_HTTP_CHAR_TOKEN = 1, LT_HTTP_CHAR_AUTHORITY = 2 };
extern const unsigned char lt_http_chars[256];

/* RFC 9110 section 5.6.2: a non-empty token. */
bool lt_http_is_token(lt_str s);
/*
 * RFC 9110 section 5.5: no NUL, CR, LF or other control byte but HTAB; bytes above 0x7f pass, DEL
 * does not.
 */
bool lt_http_is_field_value(lt_str s);
/* Characters that can be in a Host or :authority; empty is allowed (RFC 9112 section 3.2). */
bool lt_http_is_authority(lt_str s);
/*
 * A Host or an authority without userinfo (RFC 9110 section 4.2.4 lets us refuse it; it serves to
 * mislead).
 */
bool lt_http_is_host(lt_str s);

/* Without the blanks around it (OWS of RFC 9110 section 5.6.3). */
lt_str lt_http_trim(lt_str s);
/*
 * Takes the next element of a comma-separated list (RFC 9110 section 5.6.1) into *ret_item,
 * trimmed; empty elements are skipped. False at the end. Start with *rest = the field value.
 */
bool lt_http_list_next(lt_str *rest, lt_str *ret_item);
/* True when the list has the token, whatever its case. */
bool lt_http_list_has(lt_str list, lt_str token);

enum { LT_HTTP_DATE_LEN = 29 };
/* IMF-fixdate, "Sun, 06 Nov 1994 08:49:37 GMT", NUL behind. */
void lt_http_date_format(int64_t wall_ns, char out[LT_HTTP_DATE_LEN + 1]);

#endif
