/*
 * base/regex.h - regular expressions of strangers: RE2's dialect, linear time, bounded programs.
 * Immutable once made; one pattern may be matched from several threads.
 */
#ifndef LT_BASE_REGEX_H
#define LT_BASE_REGEX_H

#include "base/buf.h"
#include "base/err.h"

struct lt_regex;

/*
 * LT_E_BAD with RE2's reason; LT_E_LIMIT when the compiled program is too large. Free with
 * lt_regex_free.
 */
LT_MUST lt_rc lt_regex_new(lt_str pattern, struct lt_regex **ret_regex, struct lt_err *err);
void lt_regex_free(struct lt_regex **regex);

/* The whole text matches (Envoy's safe_regex is anchored at both ends). */
bool lt_regex_matches(const struct lt_regex *regex, lt_str text);
/* Some part of the text matches (the filter of Envoy's /stats). */
bool lt_regex_finds(const struct lt_regex *regex, lt_str text);
/*
 * All matches replaced by `substitution` (\0 to \9 are groups), appended to out
 * (envoy.type.matcher.v3.RegexMatchAndSubstitute). LT_E_LIMIT when out is full, LT_E_BAD for a bad
 * group.
 */
LT_MUST lt_rc lt_regex_replace(const struct lt_regex *regex, lt_str text, lt_str substitution,
                               struct lt_buf *out);

#endif
